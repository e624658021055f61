"""Facts about a run, read from its files for its report; a part whose file is missing is None or empty."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mjxppo.analysis.runs import check_not_cloned, find_runs, with_metrics
from mjxppo.config.schema import Config
from mjxppo.config.values import changed_settings, from_dict, read_yaml, to_yaml
from mjxppo.console import say
from mjxppo.errors import UserError
from mjxppo.files import read_json
from mjxppo.run import best, machine
from mjxppo.run.directory import CONFIG, EVAL, FILMS, SUMMARY, VIDEO, run_of_member
from mjxppo.run.metrics import RETURN, Row, read_evaluations, read_rows
from mjxppo.run.model_files import what_changed

FILE, SPLIT = "report.html", "split.json"
"""Names of the report and of the measured parts of an update (``mjxppo report --split``) in a run's directory."""
_MAX_VIDEO_BYTES = 64 * 2**20  # a page of this size still opens
_MOST_CLIPS = 12


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


class Clip(NamedTuple):
    """A film that was made while training."""

    env_steps: int
    return_mean: float | None
    """Mean return of the evaluation that it belongs to."""
    content: bytes


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
    """Of the newest policy, or of the best one, as ``of_best`` says."""
    video: bytes | None
    of_best: bool
    best: Row | None
    """The best evaluation while training; None where there is none, and for several policies."""
    clips: list[Clip]
    ended_by: str
    """As in summary.json; "signal" where the run has not ended."""
    machines: list[dict[str, Any]] = field(default_factory=list)
    split: dict[str, Any] | None = None

    @property
    def env_steps(self) -> int:
        """Environment steps of each policy so far."""
        return int(self.rows[-1]["env_steps"])

    @property
    def complete(self) -> bool:
        """Whether the run has ended: at its budget, or before where a setting said so."""
        return self.env_steps >= self.config.total_env_steps or self.ended_by not in ("budget", "signal")


def run_directory(run: Path) -> Path:
    """The directory of the run that ``run`` names: by itself, its ckpt/, one step's folder, or one of its policies.

    Raises:
        UserError: there is no such directory, or no metrics in it.
    """
    return Path(os.path.commonpath(find_runs(run)))


def read_facts(directory: Path, of_best: bool = False) -> Facts:
    """Reads a run directory; raises UserError where its configuration or its metrics are missing.

    ``of_best``: evaluation and video are those of the best policy, which ``conclude.show_best`` has made.
    """
    check_not_cloned(directory)
    values = read_yaml(directory / CONFIG)
    config = from_dict(values, str(directory / CONFIG))
    policies = with_metrics(directory, config)
    rows = read_rows(policies[0]) if policies else []
    if not rows:
        raise UserError(f"{directory}: has logged nothing yet; wait for its first updates")
    run = run_of_member(directory) or directory  # several policies share a machine and a program
    if changed := what_changed(config, run):
        say(f"{changed}: the report is about what it was")
    summary = read_json(run / SUMMARY) or {}
    if summary.get("updates") != rows[-1]["update"]:  # of before the last resume
        summary = {"compile_s": summary.get("compile_s")}
    found = best.read_best(directory)
    source = found[0] if of_best and found is not None else directory
    return Facts(
        directory=directory,
        policies=policies,
        config=config,
        yaml=to_yaml(config),
        changed=changed_settings(config),
        rows=rows,
        times=_times(rows, summary.get("compile_s")),
        evaluation=read_json(source / EVAL),
        video=_video(source / VIDEO),
        of_best=source is not directory,
        best=found[1] if found is not None else None,
        clips=_clips(directory),
        ended_by=str(summary.get("ended_by", "signal")),
        machines=machine.read(run),
        split=_split(read_json(directory / SPLIT)),
    )


def _clips(directory: Path) -> list[Clip]:
    """The films of one policy, oldest first, evenly chosen where there are many."""
    returns = {row["env_steps"]: row[RETURN] for row in read_evaluations(directory)}
    steps = sorted(int(path.stem) for path in (directory / FILMS).glob("*.mp4") if path.stem.isdigit())
    if len(steps) > _MOST_CLIPS:
        steps = [steps[round(i * (len(steps) - 1) / (_MOST_CLIPS - 1))] for i in range(_MOST_CLIPS)]
    films = [(number, _video(directory / FILMS / f"{number}.mp4")) for number in steps]
    return [Clip(number, returns.get(number), content) for number, content in films if content is not None]


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
