"""The metrics of a run's policies on the host: their files, how far each has trained, and its return."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories, members_of
from mjxppo.console import say
from mjxppo.files import WriteFailed, attempt
from mjxppo.ppo.program import env_steps_of
from mjxppo.run import distributed
from mjxppo.run.metrics import JSONL, MetricsWriter, Row, clean

_NOT_LOGGED = ("ran", "env_steps_high", "env_steps_low")


class RunLog:
    """A run's metrics files, one set for each policy, and where each policy stands."""

    def __init__(self, run_dir: Path, config: Config, first_updates: list[int]):
        """Opens the files; ``first_updates`` are the updates that each policy has done before."""
        self.directories = member_directories(run_dir, config)
        self.writers = [
            MetricsWriter(directory, resume_after=update, config=member.config)
            for directory, member, update in zip(self.directories, members_of(config), first_updates, strict=True)
            if distributed.is_first()
        ]
        """One for each policy; none in a process that is not the first."""
        for directory, metrics, update in zip(self.directories, self.writers, first_updates, strict=False):
            if metrics.missing:
                lost = f"of the {update} updates before, the metrics of {metrics.missing} are lost"
                say(f"{directory / JSONL} was damaged: {lost}")
        self.env_steps_of = [0] * len(self.directories)
        self._returns: list[float | None] = [None] * len(self.directories)
        # A policy may have used up its budget some updates before the others.
        self.update = max(first_updates)

    @property
    def env_steps(self) -> int:
        """Environment steps of the policy that has taken the fewest; the run ends when it has used up its budget."""
        return min(self.env_steps_of)

    @property
    def expected_return(self) -> float | None:
        """Mean over the policies of which it is known."""
        known = [value for value in self._returns if value is not None]
        return sum(known) / len(known) if known else None

    def rows(self, metrics: dict[str, np.ndarray], started: float, call_started: float) -> list[list[Row]]:
        """One row for each update of a device call, by policy; its times are those at which the call ended.

        ``started`` and ``call_started`` are clock readings at the start of training and of the call.
        """
        now = time.perf_counter()
        steps_before = sum(self.env_steps_of)
        by_policy = {name: values.reshape(len(self._returns), -1) for name, values in metrics.items()}
        rows = [
            self._rows_of(policy, {name: values[policy] for name, values in by_policy.items()})
            for policy in range(len(self._returns))
        ]
        speed = (sum(self.env_steps_of) - steps_before) / len(rows) / (now - call_started)
        times = {"env_steps_per_s": speed, "time_s": now - started}
        return [[clean(row | times) for row in own] for own in rows]

    def _rows_of(self, policy: int, metrics: dict[str, np.ndarray]) -> list[Row]:
        rows: list[Row] = []
        for i in range(int(metrics["ran"].sum())):
            row = {name: values[i] for name, values in metrics.items()}
            steps, update = env_steps_of(row), int(row["update"])
            self.env_steps_of[policy], self.update = steps, max(self.update, update)
            kept = {name: value for name, value in row.items() if name not in _NOT_LOGGED}
            rows.append({"update": update, "env_steps": steps} | kept)
        known = [row for row in rows if np.isfinite(row["expected_return"])]
        if known:
            # By steps, because an update that the budget cut short knows little.
            weights = [row["env_steps_this_update"] for row in known]
            self._returns[policy] = float(np.average([row["expected_return"] for row in known], weights=weights))
        return rows

    def write(self, rows: list[list[Row]]) -> None:
        """Appends the rows of each policy; raises WriteFailed on all processes."""
        with distributed.failing_together(WriteFailed):
            attempt(partial(metrics.write, own) for metrics, own in zip(self.writers, rows, strict=False))

    def sync(self) -> None:
        """Flushes all rows to the disk; raises WriteFailed on all processes."""
        with distributed.failing_together(WriteFailed):
            attempt(metrics.sync for metrics in self.writers)

    def close(self) -> None:
        """Closes all files."""
        for metrics in self.writers:
            metrics.close()
