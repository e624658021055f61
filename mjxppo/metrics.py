"""What a run writes down while it trains: metrics.jsonl, metrics.csv, and TensorBoard files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import IO, Any

JSONL, CSV, TENSORBOARD = "metrics.jsonl", "metrics.csv", "tb"

Row = dict[str, Any]


def clean(row: Row) -> Row:
    """The row with plain Python numbers, and None for what is not a number (JSON knows no NaN)."""
    cleaned: Row = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        cleaned[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return cleaned


def read_rows(run_dir: Path) -> list[Row]:
    """All complete rows of a run's metrics.jsonl; a last line cut short by a kill is left out."""
    path = run_dir / JSONL
    rows: list[Row] = []
    if not path.is_file():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class MetricsWriter:
    """Appends one row per update to a run's files."""

    def __init__(self, run_dir: Path, resume_after: int = 0, tensorboard: bool = True):
        """Opens the files.

        Args:
            run_dir: the run's directory.
            resume_after: keep the rows of this many updates from before, and drop later ones, so that a resumed
                run leaves neither a gap nor a line twice.
            tensorboard: write TensorBoard files as well.
        """
        kept = [row for row in read_rows(run_dir) if row["update"] <= resume_after] if resume_after else []
        self._jsonl = _rewrite(run_dir / JSONL, (json.dumps(row) + "\n" for row in kept))
        self._csv_file = _rewrite(run_dir / CSV, ())
        self._csv: csv.DictWriter[str] | None = None
        for row in kept:
            self._write_csv(row)
        self._csv_file.flush()
        self._tensorboard: Any = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            purge = int(kept[-1]["env_steps"]) + 1 if kept else None
            self._tensorboard = SummaryWriter(str(run_dir / TENSORBOARD), purge_step=purge)

    def write(self, rows: list[Row]) -> None:
        """Appends the rows of some updates, oldest first; TensorBoard gets the newest."""
        if not rows:
            return
        rows = [clean(row) for row in rows]
        for row in rows:
            self._jsonl.write(json.dumps(row) + "\n")
            self._write_csv(row)
        self._jsonl.flush()
        self._csv_file.flush()
        if self._tensorboard is not None:
            newest = rows[-1]
            for name, value in newest.items():
                if isinstance(value, int | float) and name not in ("update", "env_steps"):
                    self._tensorboard.add_scalar(_tag(name), value, newest["env_steps"])

    def _write_csv(self, row: Row) -> None:
        if self._csv is None:
            self._csv = csv.DictWriter(self._csv_file, fieldnames=list(row))
            self._csv.writeheader()
        self._csv.writerow(row)

    def close(self) -> None:
        """Flushes and closes all files."""
        self._jsonl.close()
        self._csv_file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def _rewrite(path: Path, lines: Any) -> IO[str]:
    """Replaces a file by ``lines``, atomically, and opens it for appending."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    temporary.replace(path)
    return path.open("a", encoding="utf-8", newline="")


def _tag(name: str) -> str:
    """TensorBoard's section for a metric."""
    if name.startswith("episode"):
        return f"episode/{name}"
    if name in ("env_steps_per_s", "time_s", "nonfinite_steps"):
        return f"run/{name}"
    return f"learning/{name}"
