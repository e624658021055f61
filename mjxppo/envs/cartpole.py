"""Gymnasium's CartPole-v1: a pole is balanced by pushing its cart to the left or to the right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from mjxppo.envs.registry import TASKS
from mjxppo.envs.task import NO_LIMIT, Array, Task
from mjxppo.errors import UserError

GRAVITY = 9.8
"""m/s^2"""
CART_MASS, POLE_MASS = 1.0, 0.1
"""kg"""
HALF_LENGTH = 0.5
"""Half of the pole's length (m)."""
FORCE = 10.0
"""N"""
TIMESTEP = 0.02
"""s"""
FARTHEST_X, LARGEST_ANGLE = 2.4, 12 * 2 * math.pi / 360
"""m and rad; beyond them the episode terminates."""


@dataclass(frozen=True, kw_only=True)
class CartPoleOptions:
    """Gymnasium's options and defaults for CartPole-v1."""

    sutton_barto_reward: bool = False
    """Whether rewards are 0, and -1 for the step that ends the episode, instead of 1 for each step."""
    max_episode_steps: int = 500
    """Time limit, in environment steps."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_episode_steps <= NO_LIMIT:
            raise UserError(
                f"env_options.max_episode_steps: must be from 1 to {NO_LIMIT}, not {self.max_episode_steps}"
            )


class CartPole(Task):
    """A pole on a cart; worlds are x, its velocity, the pole's angle and its velocity, [N, 4].

    Observation [4]: the same. Action [1]: 0 pushes to the left, 1 to the right. Reward: 1 for each step. Terminates
    when the cart is more than 2.4 m away or the pole's angle larger than 12 degrees. Truncated after 500 steps. The
    equations are those of Barto, Sutton and Anderson 1983, stepped by explicit Euler as in Gymnasium.
    """

    name = "cartpole"
    gym_id = TASKS[name].gym_id
    Options: ClassVar[type[CartPoleOptions]] = CartPoleOptions
    obs_size, action_size, categories = 4, 1, (2,)
    step_duration = TIMESTEP

    def __init__(self, options: CartPoleOptions):
        self.options = options
        self.max_episode_steps = options.max_episode_steps

    def initial(self, keys: Array) -> Array:
        return jax.vmap(lambda key: jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))(keys)

    def observe(self, worlds: Array) -> Array:
        return worlds

    def advance(self, worlds: Array, action: Array) -> tuple[Array, dict[str, Array], Array]:
        x, speed, angle, rate = worlds.T
        force = jnp.where(action[:, 0] == 1, FORCE, -FORCE)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        total, moment = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH
        temp = (force + moment * jnp.square(rate) * sin) / total
        angular = (GRAVITY * sin - cos * temp) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * jnp.square(cos) / total))
        acceleration = temp - moment * angular * cos / total
        rates = jnp.stack([speed, acceleration, rate, angular], axis=-1)
        moved = worlds + TIMESTEP * rates
        ended = (jnp.abs(moved[:, 0]) > FARTHEST_X) | (jnp.abs(moved[:, 2]) > LARGEST_ANGLE)
        reward = jnp.where(ended, -1.0, 0.0) if self.options.sutton_barto_reward else jnp.ones_like(x)
        return moved, {"reward": reward.astype(x.dtype)}, ended

    def step_info(self, worlds: Array, reward_terms: dict[str, Array]) -> dict[str, Array]:
        return {}

    def reward_term_names(self, worlds: Array, action: Array) -> list[str]:
        return ["reward"]
