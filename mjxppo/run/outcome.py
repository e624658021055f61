"""How a training loop ended."""

from __future__ import annotations

from typing import NamedTuple

from mjxppo.run.stopping import EndedBy


class Outcome(NamedTuple):
    """How a training loop ended."""

    env_steps: int
    """Environment steps of the whole run, those before a resume included; of each policy, where there are several."""
    new_env_steps: int
    """Environment steps of this program's part of it, of all policies together."""
    updates: int
    expected_return: float | None
    """Mean of the metric of that name over the last device call's steps, and over policies, where there are several."""
    train_s: float
    """Seconds in the training loop, without compilation."""
    compile_s: float
    exit_code: int
    """0, or 128 + the signal that stopped the run."""
    ended_by: EndedBy | None = "budget"
    """What ended the run; None where it has not ended."""
