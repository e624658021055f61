"""Locomotion tasks whose episodes end when the robot is no longer healthy."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from mjxppo.envs.environment import Array
from mjxppo.envs.locomotion import Locomotion, LocomotionOptions
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
    """A planar robot that is paid for staying healthy. Observation: qpos without x, qvel clipped to [-10, 10]."""

    options: HealthyOptions

    def _observe(self, physics: PhysicsState) -> Array:
        return jnp.concatenate([physics.qpos[:, 1:], jnp.clip(physics.qvel, -10, 10)], axis=-1)

    def reset_info(self, physics: PhysicsState) -> dict[str, Array]:
        height = physics.qpos[:, 1] - self.model.qpos0[1]
        return super().reset_info(physics) | {"z_distance_from_origin": height}

    def _is_healthy(self, physics: PhysicsState) -> Array:
        z, angle = physics.qpos[:, 1], physics.qpos[:, 2]
        return inside(z, self.options.healthy_z_range) & inside(angle, self.options.healthy_angle_range)

    def _health(self, physics: PhysicsState) -> tuple[dict[str, Array], Array]:
        healthy = self._is_healthy(physics)
        terms = {"reward_survive": self.options.healthy_reward * healthy.astype(physics.qpos.dtype)}
        return terms, ~healthy & self.options.terminate_when_unhealthy


def inside(value: Array, bounds: Range) -> Array:
    """Whether each value lies strictly between the bounds; NaN does not."""
    return (bounds[0] < value) & (value < bounds[1])
