"""Settings of evolution strategies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class EsConfig:
    """The population of es, and how its returns become a step."""

    sigma: Annotated[float, Gt(0), Le(1e3)] = 0.02
    """Standard deviation of the perturbation of each weight and bias."""
    worlds_per_candidate: Annotated[int, Ge(1), Le(2**24)] = 1
    """Worlds over which a candidate's return is averaged; twice this number divides ppo.block_size."""
    rank: Annotated[int, Ge(0), Le(2**16)] = 0
    """Rank of the perturbation of each weight matrix; a low one saves time and memory. 0: full."""
    shaping: Literal["centered_ranks", "none"] = "centered_ranks"
    """What stands for a return: its centered_ranks among the population, in [-0.5, 0.5], or none (the return)."""
    weight_decay: Annotated[float, Ge(0), Le(1e3)] = 0.005
    """Share of each weight and bias, times the step size, by which an update shrinks it."""
