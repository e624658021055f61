"""A tiny task whose optimum is known; it compiles in a second."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.envs.task import Array, Task


class PointMass(Task):
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

    def initial(self, keys: Array) -> Any:
        return {"x": jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-1.0, maxval=1.0))(keys)}

    def observe(self, worlds: Any) -> Array:
        x = worlds["x"]
        return jnp.concatenate([x, x[:, :1] * 100 + 50], axis=-1)

    def advance(self, worlds: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        x = worlds["x"] + 0.3 * jnp.clip(action, -1, 1)
        return {"x": x}, {"reward_distance": -jnp.square(x).sum(-1)}, jnp.abs(x).max(-1) > 3


class Crosswind(PointMass):
    """The same with a wind, drawn for each episode, that is not observed.

    A policy that knows the wind, or the effect of its last action, can hold the point against it.
    """

    name = "crosswind"

    def initial(self, keys: Array) -> Any:
        wind = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1), (2,), minval=-0.2, maxval=0.2))(keys)
        return super().initial(keys) | {"wind": wind}

    def hidden(self, worlds: Any) -> dict[str, Array]:
        return {"wind": 5 * worlds["wind"]}

    def advance(self, worlds: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        blown = worlds | {"x": worlds["x"] + worlds["wind"]}
        moved, terms, terminated = super().advance(blown, action)
        return blown | moved, terms, terminated


class Bandit(Task):
    """One step, in which an arm is pulled and a number is chosen; the arm's worth is the reward.

    The number costs its squared distance from 0.5. In half of the episodes the observation says that the best arm is
    out of order, and the mask forbids it.
    """

    name = "bandit"
    gym_id = None
    obs_size = 2
    max_episode_steps = 4
    step_duration = 1.0

    def __init__(self, worth: tuple[float, ...] = (0.0, 1.0, 0.6, 0.2), number: bool = True, breaks: bool = True):
        self.worth, self.breaks = worth, breaks
        self.categories = (len(worth),)
        self.action_size = 1 + number

    def initial(self, keys: Array) -> Any:
        return {"broken": jax.vmap(jax.random.bernoulli)(keys) & self.breaks}

    def observe(self, worlds: Any) -> Array:
        broken = worlds["broken"].astype(jnp.float32)
        return jnp.stack([broken, 1 - broken], axis=-1)

    def action_mask(self, worlds: Any) -> Array | None:
        if not self.breaks:
            return None
        best = jnp.arange(len(self.worth)) == self.worth.index(max(self.worth))
        return ~(worlds["broken"][:, None] & best)

    def advance(self, worlds: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        arm = jnp.array(self.worth)[action[:, -1].astype(jnp.int32)]
        cost = jnp.square(action[:, :-1] - 0.5).sum(-1)
        return worlds, {"arm": arm, "number": -cost}, jnp.ones(action.shape[0], bool)
