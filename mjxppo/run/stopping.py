"""When a run ends before its budget, by its evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mjxppo.config.schema import EvalConfig
from mjxppo.run.best import return_of
from mjxppo.run.metrics import Row

EndedBy = Literal["budget", "stop_at_return", "patience", "callback", "signal"]


def setting_that_ends(config: EvalConfig, rows_of: Sequence[Sequence[Row]]) -> EndedBy | None:
    """The setting that ends a run after the evaluations of each policy, oldest first; None where it goes on."""
    returns_of = [np.array([return_of(row) for row in rows]) for rows in rows_of]
    if config.stop_at_return is not None and all((r >= config.stop_at_return).any() for r in returns_of):
        return "stop_at_return"
    if config.patience and all(_since_best(r) >= config.patience for r in returns_of):
        return "patience"
    return None


def is_due(every_env_steps: int, before: int, now: int) -> bool:
    """Whether an evaluation is due after a device call that began at ``before`` and ended at ``now`` steps."""
    return before // every_env_steps < now // every_env_steps


def _since_best(returns: np.ndarray) -> int:
    """Evaluations after the first one with the highest return, 0 where there is none."""
    return len(returns) - 1 - int(returns.argmax()) if len(returns) else 0
