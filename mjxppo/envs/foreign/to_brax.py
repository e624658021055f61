"""Our environments as Brax's, for trainers written for ``brax.envs.Env``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.envs.environment import Environment, all_finite
from mjxppo.physics.messages import import_mjx

import_mjx()

from brax.envs.base import Env, State  # noqa: E402


class ToBrax(Env):
    """One world of a task behind Brax's interface; batches are made by ``jax.vmap``, as Brax's wrappers do.

    As Brax's environments it has no time limit and does not reset itself: its wrappers add both. ``metrics`` are the
    reward's terms. A world that becomes non-finite is done, with reward 0.
    """

    def __init__(self, env: Environment):
        self.env = env

    def reset(self, rng: jax.Array) -> State:
        keys = jnp.asarray(rng)[None]
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.wrap_key_data(keys)
        physics = self.env._initial(keys)
        obs = self.env._observe(physics)
        action = jax.ShapeDtypeStruct((1, self.action_size), obs.dtype)
        terms = jax.eval_shape(self.env._advance, physics, action)[1]
        zero = jnp.zeros((), obs.dtype)
        return State(_only_world(physics), obs[0], zero, zero, dict.fromkeys(terms, zero), {})

    def step(self, state: State, action: jax.Array) -> State:
        physics = jax.tree.map(lambda x: x[None], state.pipeline_state)
        physics, terms, terminated = self.env._advance(physics, jnp.asarray(action, state.obs.dtype)[None])
        obs = self.env._observe(physics)
        finite = all_finite((physics, obs))
        terms = {name: jnp.where(finite, term, 0)[0] for name, term in terms.items()}
        return state.replace(
            pipeline_state=_only_world(physics),
            obs=jnp.nan_to_num(obs, posinf=0.0, neginf=0.0)[0],
            reward=sum(terms.values(), jnp.zeros_like(state.reward)),
            done=(terminated | ~finite)[0].astype(state.done.dtype),
            metrics=state.metrics | terms,
        )

    @property
    def observation_size(self) -> int:
        return self.env.obs_size

    @property
    def action_size(self) -> int:
        return self.env.action_size

    @property
    def backend(self) -> str:
        """The physics backend's name; tasks that are not locomotion name themselves."""
        return getattr(getattr(self.env, "physics", None), "name", self.env.name)

    @property
    def dt(self) -> float:
        """Simulated seconds per step."""
        return self.env.step_duration


def _only_world(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
