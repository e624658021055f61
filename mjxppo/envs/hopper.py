"""Gymnasium's Hopper-v5."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from mjxppo.envs.healthy import HealthyLocomotion, HealthyOptions, Range, inside
from mjxppo.envs.registry import TASKS
from mjxppo.envs.task import Array
from mjxppo.physics import PhysicsState


@dataclass(frozen=True, kw_only=True)
class HopperOptions(HealthyOptions):
    """Gymnasium's options and defaults for Hopper-v5."""

    xml_file: str = "hopper.xml"
    frame_skip: int = 4
    healthy_z_range: Range = (0.7, float("inf"))
    healthy_angle_range: Range = (-0.2, 0.2)
    healthy_state_range: Range = (-100.0, 100.0)
    """Every position from the torso's angle on, and every velocity."""


class Hopper(HealthyLocomotion):
    """A one-legged robot that hops forward.

    Observation [11], action [3]. Reward: forward velocity (dx / 0.008 s) plus 1 while healthy minus 0.001 times
    the squared action. Terminates when unhealthy: z <= 0.7, |torso angle| >= 0.2, or any of the remaining
    positions and velocities beyond +-100. Truncated after 1000 steps.
    """

    name = "hopper"
    gym_id = TASKS[name].gym_id
    Options = HopperOptions
    options: HopperOptions

    def _is_healthy(self, worlds: PhysicsState) -> Array:
        state = jnp.concatenate([worlds.qpos[:, 2:], worlds.qvel], axis=-1)
        return super()._is_healthy(worlds) & inside(state, self.options.healthy_state_range).all(-1)
