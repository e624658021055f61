"""Locomotion tasks whose episodes end when the robot is no longer healthy."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from mjxppo.envs.locomotion import Locomotion, LocomotionOptions
from mjxppo.envs.task import Array
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState

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
    root = ("x", "z", "angle")

    def __init__(self, options: HealthyOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        self._check_start()

    def _check_start(self) -> None:
        for axis, index in (("z", 1), ("angle", 2)) if self.options.terminate_when_unhealthy else ():
            start, healthy = float(self.model.qpos0[index]), getattr(self.options, f"healthy_{axis}_range")
            check_start(axis, start, self.options.reset_noise_scale, healthy, "the ref of its root's joint")

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


def check_start(axis: str, start: float, noise: float, healthy: Range, meaning: str) -> None:
    """Raises UserError where every episode would end at its first step: no reset is within the healthy range.

    ``start`` is what an axis is without noise, and ``meaning`` says where in the model it comes from.
    """
    low, high = healthy
    if low >= high or start + noise <= low or start - noise >= high:
        raise UserError(
            f"env_options.healthy_{axis}_range: every episode would end at its first step: the robot starts at {axis} "
            f"= {start:g}, {meaning}, and {low:g} to {high:g} is healthy"
        )
