"""Gymnasium's HalfCheetah-v5."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from mjxppo.envs.locomotion import Locomotion, LocomotionOptions
from mjxppo.envs.registry import TASKS
from mjxppo.envs.task import Array


@dataclass(frozen=True, kw_only=True)
class HalfCheetahOptions(LocomotionOptions):
    """Gymnasium's options and defaults for HalfCheetah-v5."""

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1


class HalfCheetah(Locomotion):
    """A planar cheetah that runs; no state ends its episode.

    Observation [17]: qpos without x, qvel. Action [6]: motor controls. Reward: forward velocity (dx / 0.05 s)
    minus 0.1 times the squared action. Never terminates; truncated after 1000 steps.
    """

    name = "half_cheetah"
    gym_id = TASKS[name].gym_id
    Options = HalfCheetahOptions

    def _qvel_noise(self, key: Array) -> Array:
        return self.options.reset_noise_scale * jax.random.normal(key, (self.model.nv,))
