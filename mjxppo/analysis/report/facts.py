"""Facts about a run, read from its files for its report; a part whose file is missing is None or empty."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mjxppo.analysis.runs import find_runs, with_metrics
from mjxppo.config.schema import Config
from mjxppo.config.values import defaults_for, flatten, from_dict, read_yaml, to_dict, to_yaml
from mjxppo.errors import UserError
from mjxppo.files import read_json
from mjxppo.run import machine
from mjxppo.run.directory import CONFIG, EVAL, SUMMARY, VIDEO, run_of_member
from mjxppo.run.metrics import Row, read_rows

FILE, SPLIT = "report.html", "split.json"
"""Names of the report and of the measured parts of an update (``mjxppo report --split``) in a run's directory."""
_MAX_VIDEO_BYTES = 64 * 2**20  # a page of this size still opens


@dataclass(frozen=True)
class Times:
    """Parts of a run's time in seconds, over all starts."""

    device_s: float
    """Time in the device program, with the transfer of its metrics."""
    host_s: float
    """Time between two calls of the device program: writing metrics, starting checkpoints."""
    compile_s: float | None
    """Time to compile the program, or to read it from the cache, at the last start; None where it was not recorded."""

    @property
    def train_s(self) -> float:
        """Time in the training loop."""
        return self.device_s + self.host_s


@dataclass(frozen=True)
class Facts:
    """The contents of a report."""

    directory: Path
    policies: list[Path]
    """The directory with the metrics of each policy; the run's own where it trains one."""
    config: Config
    yaml: str
    changed: dict[str, tuple[Any, Any]]
    """Settings that differ from the task's shipped configuration: name to (shipped, this run's)."""
    rows: list[Row]
    """Metrics of the first policy."""
    times: Times
    evaluation: dict[str, Any] | None
    video: bytes | None
    machines: list[dict[str, Any]] = field(default_factory=list)
    split: dict[str, Any] | None = None

    @property
    def env_steps(self) -> int:
        """Environment steps of each policy so far."""
        return int(self.rows[-1]["env_steps"])

    @property
    def complete(self) -> bool:
        """Whether the run has reached its budget."""
        return self.env_steps >= self.config.total_env_steps


def run_directory(run: Path) -> Path:
    """The directory of the run that ``run`` names: by itself, its ckpt/, one step's folder, or one of its policies.

    Raises:
        UserError: there is no such directory, or no metrics in it.
    """
    return Path(os.path.commonpath(find_runs(run)))


def read_facts(directory: Path) -> Facts:
    """Reads a run directory; raises UserError where its configuration or its metrics are missing."""
    values = read_yaml(directory / CONFIG)
    config = from_dict(values, str(directory / CONFIG))
    policies = with_metrics(directory, config)
    rows = read_rows(policies[0]) if policies else []
    if not rows:
        raise UserError(f"{directory}: has logged nothing yet; wait for its first updates")
    run = run_of_member(directory) or directory  # several policies share a machine and a program
    summary = read_json(run / SUMMARY) or {}
    return Facts(
        directory=directory,
        policies=policies,
        config=config,
        yaml=to_yaml(config),
        changed=_changed(config),
        rows=rows,
        times=_times(rows, summary.get("compile_s")),
        evaluation=read_json(directory / EVAL),
        video=_video(directory / VIDEO),
        machines=machine.read(run),
        split=_split(read_json(directory / SPLIT)),
    )


def _video(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if 0 < path.stat().st_size <= _MAX_VIDEO_BYTES else None
    except OSError:
        return None


def _split(content: dict[str, Any] | None) -> dict[str, Any] | None:
    """The row with the parts of an update from what ``mjxppo benchmark train`` writes; None where it is unusable."""
    results = (content or {}).get("results")
    wanted = {"update_ms", "physics_ms", "policy_ms", "gae_ms", "gradient_steps_ms"}
    usable = isinstance(results, list) and len(results) == 1 and wanted <= set(results[0])
    return results[0] if usable and results else None


def _changed(config: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the task's shipped configuration: (shipped, configured) by dotted name."""
    shipped = flatten(to_dict(from_dict(defaults_for(config.env))))
    values = flatten(to_dict(config))
    return {name: (shipped.get(name), value) for name, value in values.items() if shipped.get(name) != value}


def _times(rows: list[Row], compile_s: float | None) -> Times:
    """The times of a run, from the clock readings in its rows.

    There is one reading for each device call; the clock starts from zero at each start of the program.
    """
    device_s = host_s = before_s = 0.0
    steps = done = 0
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        steps += int(row["env_steps"]) - done
        done = int(row["env_steps"])
        if following is not None and following.get("time_s") == row.get("time_s"):
            continue  # the next row is of the same device call
        now_s = float(row.get("time_s") or 0.0)
        if now_s < before_s:
            before_s = 0.0  # resumed
        call_s = min(steps / (row.get("env_steps_per_s") or float("inf")), now_s - before_s)
        device_s += call_s
        host_s += now_s - before_s - call_s
        before_s, steps = now_s, 0
    return Times(device_s, host_s, compile_s)
