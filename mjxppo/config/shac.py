"""Settings of SHAC that no other algorithm has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt


@dataclass(frozen=True)
class ShacConfig:
    """The target critic of shac, whose horizon is ppo.rollout_length."""

    target_decay: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Share of the target critic that an update leaves as it was; the rest is the critic's. 0: it is the critic."""
