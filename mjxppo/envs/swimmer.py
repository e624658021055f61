"""Gymnasium's Swimmer-v5."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mjxppo.envs.locomotion import LocomotionOptions
from mjxppo.envs.registry import TASKS
from mjxppo.envs.task import Array
from mjxppo.envs.xy_task import XYTask, XYWorlds
from mjxppo.physics import BackendName


@dataclass(frozen=True, kw_only=True)
class SwimmerOptions(LocomotionOptions):
    """Gymnasium's options and defaults for Swimmer-v5."""

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1


class Swimmer(XYTask):
    """Three links that swim along x in a viscous medium.

    Observation [8]: qpos without x and y, qvel. Action [2]: motor controls. Reward: forward velocity (dx / 0.04 s)
    minus 0.0001 times the squared action. Never terminates; truncated after 1000 steps.
    """

    name = "swimmer"
    gym_id = TASKS[name].gym_id
    Options = SwimmerOptions
    options: SwimmerOptions
    root = ("x", "y")

    def __init__(self, options: SwimmerOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        self.obs_size = self.model.nq - 2 + self.model.nv

    def initial(self, keys: Array) -> XYWorlds:
        start = super().initial(keys)
        still = jnp.zeros_like(start.qpos[:, :2])
        return XYWorlds(start.qpos, start.qvel, start.qacc_warmstart, velocity=still)

    def observe(self, worlds: XYWorlds) -> Array:
        return jnp.concatenate([worlds.qpos[:, 2:], worlds.qvel], axis=-1)

    def advance(self, worlds: XYWorlds, action: Array) -> tuple[XYWorlds, dict[str, Array], Array]:
        ctrl, start = self.controls(action), self._start_of_step(worlds)
        moved = self.physics.step(start, ctrl)
        after = XYWorlds(
            qpos=self._end_of_step(worlds, start, moved),
            qvel=moved.qvel,
            qacc_warmstart=moved.qacc_warmstart,
            parameters=moved.parameters,
            velocity=(moved.qpos[:, :2] - start.qpos[:, :2]) / self.step_duration,
        )
        return after, self._rewards(after, ctrl), jnp.zeros(len(ctrl), bool)

    def _rewards(self, worlds: XYWorlds, ctrl: Array) -> dict[str, Array]:
        """The reward's terms of a step that led to ``worlds``, each [N]."""
        return {
            "reward_forward": self.options.forward_reward_weight * worlds.velocity[:, 0],
            "reward_ctrl": -self.options.ctrl_cost_weight * jnp.square(ctrl).sum(-1),
        }

    def reward_term_names(self, worlds: XYWorlds, action: Array) -> list[str]:
        return list(jax.eval_shape(self._rewards, worlds, action))
