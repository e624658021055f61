"""The limit on the share of a run's steps that are lost to non-finite numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mjxppo.config.schema import PpoConfig
from mjxppo.run.metrics import Row


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
    gradient_steps = sum(row["gradient_steps"] for row in rows)
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
