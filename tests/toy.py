"""A tiny environment whose optimum is known; it compiles in a second."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.envs.environment import Array, Environment


class PointMass(Environment):
    """Move a point towards the origin: reward is minus the squared distance after the step.

    The episode terminates when the point is further than 3 from the origin. The best policy keeps it at the origin.
    """

    name = "point_mass"
    gym_id = None
    obs_size = 3
    action_size = 2
    step_duration = 0.1

    def __init__(self, max_episode_steps: int = 20):
        self.max_episode_steps = max_episode_steps

    def _initial(self, keys: Array) -> Any:
        return {"x": jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-1.0, maxval=1.0))(keys)}

    def _observe(self, physics: Any) -> Array:
        x = physics["x"]
        return jnp.concatenate([x, x[:, :1] * 100 + 50], axis=-1)

    def _advance(self, physics: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        x = physics["x"] + 0.3 * jnp.clip(action, -1, 1)
        return {"x": x}, {"reward_distance": -jnp.square(x).sum(-1)}, jnp.abs(x).max(-1) > 3


class Crosswind(PointMass):
    """The same in a wind of the episode's own, which is not observed.

    Who knows the wind, or sees what the last action has led to, can hold the point against it.
    """

    name = "crosswind"

    def _initial(self, keys: Array) -> Any:
        wind = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1), (2,), minval=-0.2, maxval=0.2))(keys)
        return super()._initial(keys) | {"wind": wind}

    def _hidden(self, physics: Any) -> dict[str, Array]:
        return {"wind": 5 * physics["wind"]}

    def _advance(self, physics: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        blown = physics | {"x": physics["x"] + physics["wind"]}
        moved, terms, terminated = super()._advance(blown, action)
        return blown | moved, terms, terminated
