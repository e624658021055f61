"""Locomotion tasks whose episodes end when the robot is no longer healthy."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from mjxppo.envs.locomotion import Locomotion, LocomotionOptions
from mjxppo.envs.task import Array
from mjxppo.physics import PhysicsState

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class HealthyOptions(LocomotionOptions):
    """Options of the health rule, under Gymnasium's names. All bounds are exclusive."""

    healthy_reward: float = 1.0
    """Reward for each healthy step."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy step ends the episode."""
    healthy_z_range: Range
    """Height of the torso (m)."""
    healthy_angle_range: Range
    """Angle of the torso (rad)."""


class HealthyLocomotion(Locomotion):
    """A planar robot that is also rewarded for staying healthy.

    Observation: qpos without x, qvel clipped to [-10, 10].
    """

    options: HealthyOptions

    def observe(self, worlds: PhysicsState) -> Array:
        return jnp.concatenate([worlds.qpos[:, 1:], jnp.clip(worlds.qvel, -10, 10)], axis=-1)

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        height = worlds.qpos[:, 1] - self.model.qpos0[1]
        return super().reset_info(worlds) | {"z_distance_from_origin": height}

    def _is_healthy(self, worlds: PhysicsState) -> Array:
        z, angle = worlds.qpos[:, 1], worlds.qpos[:, 2]
        return inside(z, self.options.healthy_z_range) & inside(angle, self.options.healthy_angle_range)

    def _health(self, worlds: PhysicsState) -> tuple[dict[str, Array], Array]:
        healthy = self._is_healthy(worlds)
        terms = {"reward_survive": self.options.healthy_reward * healthy.astype(worlds.qpos.dtype)}
        return terms, ~healthy & self.options.terminate_when_unhealthy


def inside(value: Array, bounds: Range) -> Array:
    """Whether each value lies strictly between the bounds; NaN does not."""
    return (bounds[0] < value) & (value < bounds[1])
