"""An environment of Brax, of MuJoCo Playground, or any with their interface, as one of ours.

That interface is: ``reset(key) -> state`` and ``step(state, action) -> state`` of one world, with ``state.obs``,
``state.reward`` and ``state.done``, and ``action_size``. It is asked for by use, not by type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import jax

from mjxppo.envs.environment import Array, Environment
from mjxppo.errors import UserError
from mjxppo.physics.messages import import_mjx

_PRIVILEGED = "privileged_state"


class FromBrax(Environment):
    """An environment with Brax's interface, with fresh random resets and a time limit of its own.

    Of observations in several parts the policy sees the one that Playground calls "state"; "privileged_state" is
    hidden.
    """

    gym_id = None

    def __init__(self, env: Any, name: str = "", *, max_episode_steps: int = 1000):
        """Adopts an environment.

        Args:
            env: has Brax's interface; must not reset itself (the wrappers of Brax's own trainers do).
            name: what configurations call it; by default its class's name.
            max_episode_steps: time limit in environment steps.

        Raises:
            UserError: it lacks that interface, or its observations are no vector.
        """
        name = name or type(env).__name__
        missing = [part for part in ("reset", "step", "action_size") if not hasattr(env, part)]
        if missing:
            raise UserError(f"env: {name} has no {missing[0]}; an environment has reset, step and action_size")
        if max_episode_steps < 1:
            raise UserError(f"env_options.max_episode_steps: must be at least 1, not {max_episode_steps}")
        self._env = env
        self.name = name
        state = jax.eval_shape(env.reset, jax.random.key(0))
        obs = _observation(state.obs)
        if not hasattr(obs, "shape") or len(obs.shape) != 1:
            raise UserError(f"env: {name} must observe a vector, or parts of which one, 'state', is a vector")
        self.obs_size = int(obs.shape[0])
        self.action_size = int(env.action_size)
        self.max_episode_steps = max_episode_steps
        self.step_duration = float(getattr(env, "dt", math.nan))  # some say nothing of time

    def _initial(self, keys: Array) -> Any:
        return jax.vmap(self._env.reset)(keys)

    def _observe(self, physics: Any) -> Array:
        return _observation(physics.obs)

    def _hidden(self, physics: Any) -> dict[str, Array]:
        known = isinstance(physics.obs, Mapping) and _PRIVILEGED in physics.obs
        return {_PRIVILEGED: physics.obs[_PRIVILEGED]} if known else {}

    def _advance(self, physics: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        physics = jax.vmap(self._env.step)(physics, action)
        return physics, {"reward": physics.reward}, physics.done.astype(bool)


def _observation(obs: Any) -> Any:
    return obs.get("state") if isinstance(obs, Mapping) else obs


def brax(name: str, *, max_episode_steps: int = 1000, **options: Any) -> FromBrax:
    """An environment that is registered with ``brax.envs``.

    Args:
        name: its name there.
        max_episode_steps: time limit in environment steps.
        options: passed on to its constructor.

    Raises:
        UserError: Brax has no such environment or refuses the options.
    """
    import_mjx()
    from brax import envs

    try:
        env = envs.get_environment(name, **options)
    except KeyError as error:
        raise UserError(f"env: Brax has no environment {name!r}") from error
    except TypeError as error:
        raise UserError(f"env_options: brax:{name} does not take these options: {error}") from error
    return FromBrax(env, f"brax:{name}", max_episode_steps=max_episode_steps)


def playground(name: str, *, max_episode_steps: int = 1000, **options: Any) -> FromBrax:
    """An environment of MuJoCo Playground, which has to be installed.

    Args:
        name: its name in ``mujoco_playground.registry``.
        max_episode_steps: time limit in environment steps.
        options: override fields of its configuration; ``impl`` is "jax" where Warp is not installed.

    Raises:
        UserError: Playground is not installed, has no such environment, or refuses the options.
    """
    import_mjx()
    try:
        from mujoco_playground import registry
    except ImportError as error:
        raise UserError(f"env: playground:{name} needs MuJoCo Playground: pip install playground") from error
    if name not in registry.ALL_ENVS:
        raise UserError(f"env: Playground has no environment {name!r}")
    if find_spec("warp") is None and "impl" in registry.get_default_config(name):
        options = {"impl": "jax"} | options
    try:
        env = registry.load(name, config_overrides=options)
    except (KeyError, TypeError) as error:
        raise UserError(f"env_options: playground:{name} does not take these options: {error}") from error
    return FromBrax(env, f"playground:{name}", max_episode_steps=max_episode_steps)
