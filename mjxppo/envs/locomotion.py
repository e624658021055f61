"""Locomotion: the common part of Gymnasium's planar locomotion tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from mjxppo.envs import robot
from mjxppo.envs.robot_task import NoisyRobotOptions, RobotTask
from mjxppo.envs.task import Array
from mjxppo.physics import BackendName, PhysicsState


@dataclass(frozen=True, kw_only=True)
class LocomotionOptions(NoisyRobotOptions):
    """The options of a locomotion task, under Gymnasium's names; the defaults are Gymnasium's."""

    forward_reward_weight: float = 1.0
    """Weight of the forward velocity (m/s)."""
    ctrl_cost_weight: float = 1e-3
    """Weight of the squared action."""


class Locomotion(RobotTask):
    """A planar robot whose reward is its velocity along x, less a cost for control.

    Subclasses set their options, and override the noise, the observation and the health rule where they differ.
    """

    Options: ClassVar[type[LocomotionOptions]]
    options: LocomotionOptions

    def __init__(self, options: LocomotionOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        robot.check_ground(self.model)
        self._depends_on_x = robot.depends_on_x(self.model) is not None
        self.obs_size = self.model.nq - 1 + self.model.nv

    def observe(self, worlds: PhysicsState) -> Array:
        return jnp.concatenate([worlds.qpos[:, 1:], worlds.qvel], axis=-1)

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        return {"x_position": worlds.qpos[:, 0]}

    def step_info(self, worlds: PhysicsState, reward_terms: dict[str, Array]) -> dict[str, Array]:
        info = super().step_info(worlds, reward_terms)
        weight = self.options.forward_reward_weight
        return info | {"x_velocity": info["reward_forward"] / weight} if weight else info

    def _health(self, worlds: PhysicsState) -> tuple[dict[str, Array], Array]:
        """Reward terms for being healthy, and whether the episode terminates, [N]; by default neither."""
        return {}, jnp.zeros(worlds.qpos.shape[0], bool)

    def advance(self, worlds: PhysicsState, action: Array) -> tuple[PhysicsState, dict[str, Array], Array]:
        ctrl = self.controls(action)
        x_before = worlds.qpos[:, :1]
        if self._depends_on_x:
            moved = self.physics.step(worlds, ctrl)
            x_velocity = (moved.qpos[:, 0] - x_before[:, 0]) / self.step_duration
            return moved, *self._reward_and_end(moved, x_velocity, ctrl)
        # Stepping from x = 0 keeps the displacement, and with it the reward, exact in float32 however far the robot has
        # run.
        start = replace(worlds, qpos=jnp.concatenate([jnp.zeros_like(x_before), worlds.qpos[:, 1:]], axis=-1))
        moved = self.physics.step(start, ctrl)
        x_velocity = moved.qpos[:, 0] / self.step_duration
        moved = replace(moved, qpos=jnp.concatenate([x_before + moved.qpos[:, :1], moved.qpos[:, 1:]], axis=-1))
        return moved, *self._reward_and_end(moved, x_velocity, ctrl)

    def _reward_and_end(self, worlds: PhysicsState, x_velocity: Array, ctrl: Array) -> tuple[dict[str, Array], Array]:
        """The reward's terms of a step that led to ``worlds``, and whether the episode terminates, each [N]."""
        terms = {
            "reward_forward": self.options.forward_reward_weight * x_velocity,
            "reward_ctrl": -self.options.ctrl_cost_weight * jnp.square(ctrl).sum(-1),
        }
        health_terms, terminated = self._health(worlds)
        return terms | health_terms, terminated

    def reward_term_names(self, worlds: PhysicsState, action: Array) -> list[str]:
        return list(jax.eval_shape(self._reward_and_end, worlds, worlds.qpos[:, 0], action)[0])
