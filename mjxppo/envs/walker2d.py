"""Gymnasium's Walker2d-v5."""

from __future__ import annotations

from dataclasses import dataclass

from mjxppo.envs.healthy import HealthyLocomotion, HealthyOptions, Range
from mjxppo.envs.registry import TASKS


@dataclass(frozen=True, kw_only=True)
class Walker2dOptions(HealthyOptions):
    """Gymnasium's options and defaults for Walker2d-v5."""

    xml_file: str = "walker2d_v5.xml"
    frame_skip: int = 4
    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)


class Walker2d(HealthyLocomotion):
    """A two-legged robot that walks.

    Observation [17], action [6]. Reward: forward velocity (dx / 0.008 s) plus 1 while healthy minus 0.001 times
    the squared action. Terminates when z is outside (0.8, 2) or the torso's angle outside (-1, 1). Truncated
    after 1000 steps.
    """

    name = "walker2d"
    gym_id = TASKS[name].gym_id
    Options = Walker2dOptions
