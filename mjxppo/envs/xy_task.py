"""XYTask: the common part of the tasks whose robots travel along x and y."""

from __future__ import annotations

from dataclasses import replace

import flax.struct
import jax.numpy as jnp

from mjxppo.envs import robot
from mjxppo.envs.robot_task import NoisyRobotOptions, RobotTask
from mjxppo.envs.task import Array
from mjxppo.physics import BackendName, PhysicsState


@flax.struct.dataclass
class XYWorlds(PhysicsState):
    """The state of N worlds, and how fast the robot has travelled."""

    velocity: Array = flax.struct.field(kw_only=True)
    """Velocity over the last step, along x and y (m/s), [N, 2]."""


class XYTask(RobotTask):
    """A robot whose place, x and y, is the first two numbers of qpos."""

    options: NoisyRobotOptions

    def __init__(self, options: NoisyRobotOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        self._depends_on_place = robot.depends_on_x(self.model, "xy") is not None

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        place = worlds.qpos[:, :2]
        distance = jnp.sqrt(jnp.square(place).sum(-1))
        return {"x_position": place[:, 0], "y_position": place[:, 1], "distance_from_origin": distance}

    def step_info(self, worlds: XYWorlds, reward_terms: dict[str, Array]) -> dict[str, Array]:
        velocity = {f"{axis}_velocity": worlds.velocity[:, i] for i, axis in enumerate("xy")}
        return super().step_info(worlds, reward_terms) | velocity

    def _start_of_step(self, worlds: PhysicsState) -> PhysicsState:
        """The state to step from: at x = y = 0 where nothing depends on the place.

        The displacement, and with it the reward, stays exact in float32 however far the robot has travelled.
        """
        start = PhysicsState(worlds.qpos, worlds.qvel, worlds.qacc_warmstart, worlds.parameters)
        return start if self._depends_on_place else replace(start, qpos=_at(jnp.zeros_like(start.qpos[:, :2]), start))

    def _end_of_step(self, worlds: PhysicsState, start: PhysicsState, moved: PhysicsState) -> Array:
        """The positions [N, nq] in the world, after a step from ``start`` that ``worlds`` took."""
        return _at(worlds.qpos[:, :2] + (moved.qpos[:, :2] - start.qpos[:, :2]), moved)


def _at(place: Array, worlds: PhysicsState) -> Array:
    """The positions of ``worlds`` [N, nq] with other x and y, [N, 2]."""
    return jnp.concatenate([place, worlds.qpos[:, 2:]], axis=-1)
