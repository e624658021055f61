"""Settings of behaviour cloning, which are not part of a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt

from mjxppo.config.schema import Count, Positive, Updates


@dataclass(frozen=True)
class CloningConfig:
    """How demonstrations are learned."""

    demonstrations: Updates = 0
    """Take the first of the data's episodes, this number; 0: all."""
    epochs: Count = 100
    """Passes over the demonstrations."""
    minibatch_size: Count = 256
    """Steps of the demonstrations for each gradient step."""
    learning_rate: Positive = 1e-3
    """Adam's step size at the start; it falls linearly to 0 over the epochs."""
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the episodes, rounded down, that is not learned from: the policy after the epoch with the least loss on
    them is kept. 0: the last."""
    teacher: str | None = None
    """A run, a .npz, module:function, or file.py:function that is asked for the right actions (DAgger)."""
    dagger_rounds: Updates = 0
    """Rounds in which the learned policy acts, the teacher says what it would do there, and all is learned again."""
    dagger_episodes: Count = 8
    """Episodes of each round."""
