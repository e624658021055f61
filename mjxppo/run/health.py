"""Non-finite numbers: the limit on the share of a run's steps that are lost to them, and what must not hold any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mjxppo.config.schema import PpoConfig
from mjxppo.run.metrics import Row


class TrainingFailed(Exception):
    """Training cannot go on, or its last state could not be saved; the last good checkpoint is kept."""

    def __init__(self, message: str, nonfinite: tuple[int, int] | None = None):
        super().__init__(message)
        self.nonfinite = nonfinite
        """Where non-finite numbers are the reason: the first update that had any, and the index of its policy."""


class Problem(NamedTuple):
    """More non-finite numbers than ``ppo.max_nonfinite_share`` allows."""

    message: str
    update: int
    """The first update that had any."""
    member: int
    """Index of the policy that had them."""


def problem_of(rows_of_members: Sequence[Sequence[Row]], ppo: PpoConfig) -> Problem | None:
    """The problem in the updates of one device call, for each policy their metric rows; None where there is none."""
    rows = [row for own in rows_of_members for row in own]
    steps = sum(row["env_steps_this_update"] for row in rows)
    gradient_steps = sum(row["gradient_steps"] + row.get("critic_gradient_steps", 0) for row in rows)
    for name, of, what in (
        ("nonfinite_steps", steps, "steps ended in a non-finite world"),
        ("skipped_gradient_steps", gradient_steps, "gradient steps were skipped for a non-finite gradient"),
    ):
        count = sum(row[name] for row in rows)
        if count > ppo.max_nonfinite_share * max(of, 1):
            found = [(row["update"], member) for member, own in enumerate(rows_of_members) for row in own if row[name]]
            limit = f"more than ppo.max_nonfinite_share = {ppo.max_nonfinite_share}"
            return Problem(f"{count} of the last {of} {what} ({limit})", *min(found))
    return None


def nonfinite_array(arrays: Mapping[str, Any]) -> str | None:
    """The name of a learner's array, among named arrays of a training state, that holds non-finite numbers; or None.

    Worlds may hold them: those that broke are masked, and reset.
    """
    floats = (name for name, x in arrays.items() if name.startswith("learner/") and np.issubdtype(x.dtype, np.floating))
    return next((name for name in floats if not np.isfinite(np.asarray(arrays[name])).all()), None)
