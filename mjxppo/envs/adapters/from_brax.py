"""An environment of Brax (or any with its interface) as one of ours."""

from __future__ import annotations

import math
from typing import Any

import jax

from mjxppo.envs.base import Array, Environment
from mjxppo.errors import UserError
from mjxppo.quiet import import_mjx


class FromBrax(Environment):
    """``brax.envs`` NAME, with fresh random resets and a time limit of its own."""

    gym_id = None

    def __init__(self, brax_name: str, *, max_episode_steps: int = 1000, **options: Any):
        """Builds the Brax environment.

        Args:
            brax_name: a name registered with ``brax.envs``.
            max_episode_steps: time limit in environment steps.
            options: passed on to the Brax environment's constructor.

        Raises:
            UserError: Brax has no such environment or refuses the options.
        """
        import_mjx()
        from brax import envs as brax_envs

        try:
            self._env = brax_envs.get_environment(brax_name, **options)
        except KeyError as error:
            raise UserError(f"env: Brax has no environment {brax_name!r}") from error
        except TypeError as error:
            raise UserError(f"env_options: brax:{brax_name} does not take these options: {error}") from error
        self.name = f"brax:{brax_name}"
        self.obs_size = int(self._env.observation_size)
        self.action_size = int(self._env.action_size)
        self.max_episode_steps = max_episode_steps
        self.step_duration = float(getattr(self._env, "dt", math.nan))  # some say nothing of time

    def _initial(self, keys: Array) -> Any:
        return jax.vmap(self._env.reset)(keys)

    def _observe(self, physics: Any) -> Array:
        return physics.obs

    def _advance(self, physics: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        physics = jax.vmap(self._env.step)(physics, action)
        return physics, {"reward": physics.reward}, physics.done.astype(bool)
