"""Gymnasium's Ant-v5."""

from __future__ import annotations

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp

from mjxppo.envs import robot
from mjxppo.envs.healthy import Range, check_start
from mjxppo.envs.locomotion import LocomotionOptions
from mjxppo.envs.registry import TASKS
from mjxppo.envs.task import Array
from mjxppo.envs.xy_task import XYTask, XYWorlds
from mjxppo.physics import BackendName


@flax.struct.dataclass
class AntWorlds(XYWorlds):
    """The state of N worlds, and what Gymnasium's environment reads from ``mjData`` after a step.

    Those numbers are of the last evaluation of the dynamics (``physics.base.Evaluation``), whose positions differ a
    little from those that the step ends in. The velocity is that of ``xpos``.
    """

    lag: Array = flax.struct.field(kw_only=True)
    """How far the torso's ``xpos`` is from its qpos, x and y (m), [N, 2]."""
    contact_forces: Array = flax.struct.field(kw_only=True)
    """``cfrc_ext`` of all bodies but the world, clipped, [N, (nbody - 1) * 6]."""


@dataclass(frozen=True, kw_only=True)
class AntOptions(LocomotionOptions):
    """Gymnasium's options and defaults for Ant-v5."""

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    """Weight of the squared contact forces, after they are clipped."""
    contact_force_range: Range = (-1.0, 1.0)
    """Contact forces (N, Nm) are clipped to this range."""
    include_cfrc_ext_in_observation: bool = True
    """Whether the contact forces are observed."""
    healthy_reward: float = 1.0
    """Reward for each healthy step."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy step ends the episode."""
    healthy_z_range: Range = (0.2, 1.0)
    """Height of the torso (m); the bounds are inclusive."""
    reset_noise_scale: float = 0.1


class Ant(XYTask):
    """A four-legged robot that runs along x.

    Observation [105]: qpos without x and y, qvel, the contact forces on the 13 bodies (moment, force), clipped to
    +-1. Action [8]: motor controls. Reward: forward velocity (dx / 0.05 s) plus 1 while healthy minus 0.5 times the
    squared action minus 0.0005 times the squared contact forces. Terminates when z is outside [0.2, 1]. Truncated after
    1000 steps.
    """

    name = "ant"
    gym_id = TASKS[name].gym_id
    Options = AntOptions
    options: AntOptions
    root = ("free",)

    def __init__(self, options: AntOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        robot.check_ground(self.model)
        with self._naming_the_cause(backend):
            self.physics.check_contact_forces()
        if options.terminate_when_unhealthy:
            start = float(self.model.qpos0[2])
            check_start("z", start, options.reset_noise_scale, options.healthy_z_range, "the height of its first body")
        observed = (self.model.nbody - 1) * 6 * options.include_cfrc_ext_in_observation
        self.obs_size = self.model.nq - 2 + self.model.nv + observed

    def initial(self, keys: Array) -> AntWorlds:
        start = super().initial(keys)
        still = jnp.zeros_like(start.qpos[:, :2])
        # As Gymnasium's, which computes them after steps only.
        forces = jnp.zeros((len(still), (self.model.nbody - 1) * 6), still.dtype)
        arrays = start.qpos, start.qvel, start.qacc_warmstart
        return AntWorlds(*arrays, lag=still, velocity=still, contact_forces=forces)

    def _qvel_noise(self, key: Array) -> Array:
        return self.options.reset_noise_scale * jax.random.normal(key, (self.model.nv,))

    def observe(self, worlds: AntWorlds) -> Array:
        parts = [worlds.qpos[:, 2:], worlds.qvel]
        if self.options.include_cfrc_ext_in_observation:
            parts.append(worlds.contact_forces)
        return jnp.concatenate(parts, axis=-1)

    def advance(self, worlds: AntWorlds, action: Array) -> tuple[AntWorlds, dict[str, Array], Array]:
        ctrl, start = self.controls(action), self._start_of_step(worlds)
        moved, last = self.physics.step_with_contact_forces(start, ctrl)
        seen = last.qpos[:, :2]
        after = AntWorlds(
            qpos=self._end_of_step(worlds, start, moved),
            qvel=moved.qvel,
            qacc_warmstart=moved.qacc_warmstart,
            parameters=moved.parameters,
            lag=seen - moved.qpos[:, :2],
            velocity=(seen - start.qpos[:, :2] - worlds.lag) / self.step_duration,
            contact_forces=jnp.clip(last.cfrc_ext[:, 1:], *self.options.contact_force_range).reshape(len(ctrl), -1),
        )
        return after, *self._reward_and_end(after, ctrl)

    def _reward_and_end(self, worlds: AntWorlds, ctrl: Array) -> tuple[dict[str, Array], Array]:
        """The reward's terms of a step that led to ``worlds``, and whether the episode terminates, each [N]."""
        options, (low, high) = self.options, self.options.healthy_z_range
        height = worlds.qpos[:, 2]
        finite = jnp.isfinite(worlds.qpos).all(-1) & jnp.isfinite(worlds.qvel).all(-1)
        healthy = finite & (low <= height) & (height <= high)
        terms = {
            "reward_forward": options.forward_reward_weight * worlds.velocity[:, 0],
            "reward_ctrl": -options.ctrl_cost_weight * jnp.square(ctrl).sum(-1),
            "reward_contact": -options.contact_cost_weight * jnp.square(worlds.contact_forces).sum(-1),
            "reward_survive": options.healthy_reward * healthy.astype(height.dtype),
        }
        return terms, ~healthy & options.terminate_when_unhealthy

    def reward_term_names(self, worlds: AntWorlds, action: Array) -> list[str]:
        return list(jax.eval_shape(self._reward_and_end, worlds, action)[0])
