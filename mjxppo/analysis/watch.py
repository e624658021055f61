"""Live view of a run in the terminal, from the files that it writes; the run is not affected. Imports no JAX."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mjxppo.analysis.runs import check_not_cloned
from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import from_dict, read_yaml
from mjxppo.console import duration, human, program
from mjxppo.errors import UserError
from mjxppo.files import read_json
from mjxppo.policy.engine import physics_of
from mjxppo.run.directory import CHECKSUMS, CKPT, CONFIG, EVAL, SUMMARY, in_use, run_of_member
from mjxppo.run.metrics import JSONL, RETURN, Row

State = Literal["starting", "training", "finishing", "complete", "stopped"]

_COLOURS = {"starting": "yellow", "training": "green", "finishing": "green", "complete": "cyan", "stopped": "red"}
_RETURNS = ("expected_return", "episode_return")
"""The metric that is shown as the return: the first of them that the run has."""
_KEPT = ("update", "env_steps", "env_steps_per_s", *_RETURNS, "episode_length", "episodes", "time_s")
_DETAILS = {
    "explained_variance": "explained variance",
    "approx_kl": "KL",
    "clip_fraction": "clipped",
    "std": "std",
    "randomization_extent": "share of the randomisation's ranges",
}
_BLOCKS = "▁▂▃▄▅▆▇█"
_MAX_POLICIES = 20
_SPARK_WIDTH = 40
_SILENCE_S = 60.0  # a device call rarely takes longer


@dataclass
class Tail:
    """Rows of a growing metrics.jsonl; each is parsed once."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    """The columns that are shown, oldest row first."""
    newest: Row = field(default_factory=dict)
    """The last row with all columns."""
    evaluations: list[Row] = field(default_factory=list)
    """The rows of the evaluations while training."""
    _file: int = 0
    _offset: int = 0

    def read(self) -> None:
        """Reads the lines completed since the last call; starts from the beginning where the file was replaced."""
        try:
            with self.path.open("rb") as file:
                status = self.path.stat()
                if status.st_ino != self._file or status.st_size < self._offset:  # a resume replaces the file
                    self.rows, self.newest, self.evaluations = [], {}, []
                    self._file, self._offset = status.st_ino, 0
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return
        whole, newline, _ = content.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and RETURN in row:
                self.evaluations.append(row)
            elif isinstance(row, dict) and "env_steps" in row:
                self.rows.append({name: row[name] for name in _KEPT if name in row})
                self.newest = row


@dataclass(frozen=True)
class Frame:
    """State of a run at one moment."""

    directory: Path
    run_dir: Path
    """The run's directory; differs from ``directory`` where that belongs to one policy of several."""
    config: Config
    state: State
    tails: list[Tail]
    """One for each policy that the run trains."""
    checkpoint: int | None
    """Update of the newest complete checkpoint; None where there is none."""
    checkpoint_age_s: float
    silent_s: float
    """Seconds since metrics were last written."""
    evaluation: dict[str, Any] | None

    @property
    def rows(self) -> list[Row]:
        """The first policy's rows."""
        return self.tails[0].rows

    @property
    def newest(self) -> Row:
        """The first policy's last row, with all columns."""
        return self.tails[0].newest

    @property
    def env_steps(self) -> int:
        """Environment steps of each policy so far."""
        return int(self.newest.get("env_steps", 0))

    @property
    def left_s(self) -> float | None:
        """Seconds of training left at the mean speed of the last device calls; None where that is unknown."""
        speeds = [row["env_steps_per_s"] for row in self.rows[-50:] if row.get("env_steps_per_s")]
        return (self.config.total_env_steps - self.env_steps) / float(np.mean(speeds)) if speeds else None


def watch(path: Path, console: Console, *, once: bool = False, interval_s: float = 1.0) -> State:
    """Shows a run until it ends.

    Args:
        path: a run directory; also of a run that has logged nothing yet.
        console: where the run is shown; where it is no terminal, only the last frame is shown.
        once: show one frame and return.
        interval_s: seconds between two reads of the files.

    Returns:
        The last state of the run that was shown.

    Raises:
        UserError: there is no run.
    """
    read_frame = _frame_reader(path)
    frame = read_frame()
    if once or not _is_live(frame):
        console.print(draw_frame(frame))
        return frame.state
    with Live(draw_frame(frame), console=console, auto_refresh=False) as live:
        while _is_live(frame):
            time.sleep(interval_s)
            frame = read_frame()
            live.update(draw_frame(frame), refresh=True)
    return frame.state


def _is_live(frame: Frame) -> bool:
    return frame.state in ("starting", "training", "finishing")


def _frame_reader(path: Path) -> Callable[[], Frame]:
    """A function that reads the run's files and returns its state."""
    if not (path / CONFIG).is_file():
        raise UserError(f"{path}: holds no run ({CONFIG} is missing); give a run directory")
    check_not_cloned(path)
    directory = path.resolve()  # runs/latest may name another run later
    config = from_dict(read_yaml(directory / CONFIG), str(path / CONFIG))
    tails = [Tail(own / JSONL) for own in member_directories(directory, config)]
    run = run_of_member(directory) or directory

    def read_frame() -> Frame:
        training = in_use(run)  # before the files: the last lines of a run that ends now are then still read
        for tail in tails:
            tail.read()
        now = time.time()
        checkpoint, saved = next(_checkpoints(run / CKPT), (None, now))
        return Frame(
            directory=directory,
            run_dir=run,
            config=config,
            state=_state(training, tails[0], config, read_json(run / SUMMARY) or {}),
            tails=tails,
            checkpoint=checkpoint,
            checkpoint_age_s=max(0.0, now - saved),
            silent_s=max(0.0, now - _modified(tails[0].path, now)),
            evaluation=read_json(directory / EVAL),
        )

    return read_frame


def _state(training: bool, tail: Tail, config: Config, summary: dict[str, Any]) -> State:
    done = tail.newest.get("env_steps", 0) >= config.total_env_steps
    # A summary of before the last resume is of fewer updates.
    ended = summary.get("ended_by", "signal") != "signal" and summary.get("updates") == tail.newest.get("update")
    if training:
        return "finishing" if done else "training" if tail.rows else "starting"
    return "complete" if done or ended else "stopped"


def _modified(path: Path, otherwise: float) -> float:
    """Time at which a file was last written; ``otherwise`` where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return otherwise


def _checkpoints(directory: Path) -> Iterator[tuple[int, float]]:
    """Update and time of each complete checkpoint, newest first; their contents are not read."""
    try:
        numbers = sorted((int(step.name) for step in directory.iterdir() if step.name.isdigit()), reverse=True)
    except OSError:
        return
    for number in numbers:
        manifest = directory / str(number) / CHECKSUMS
        if manifest.is_file():
            yield number, _modified(manifest, time.time())


def draw_frame(frame: Frame) -> RenderableType:
    """A panel with the run's progress, its metrics and a hint."""
    config = frame.config
    title = Text.assemble((config.env, "bold"), f"  seed {config.seed}  ", (frame.state, _COLOURS[frame.state]))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="dim", max_width=44)
    table.add_column(ratio=1)
    table.add_row("", ProgressBar(total=config.total_env_steps, completed=frame.env_steps))
    for name, cell in _lines(frame):
        table.add_row(name, cell)
    hint = _hint(frame)
    body = Group(table, Text(hint, style="yellow")) if hint else table
    return Panel(body, title=title, title_align="left", subtitle=str(frame.directory.name), subtitle_align="right")


def _lines(frame: Frame) -> Iterator[tuple[str, RenderableType]]:
    config, newest = frame.config, frame.newest
    share = 100 * frame.env_steps / config.total_env_steps
    text = (
        f"{human(frame.env_steps)} of {human(config.total_env_steps)} ({share:.0f} %), update {newest.get('update', 0)}"
    )
    if frame.state == "training" and frame.left_s is not None:
        text += f", {duration(frame.left_s)} left"
    yield "steps", text
    yield from _curves(frame)
    details = [f"{label} {newest[name]:.3g}" for name, label in _DETAILS.items() if newest.get(name) is not None]
    if details:
        yield "learning", ", ".join(details)
    if frame.checkpoint is not None:
        yield "checkpoint", f"update {frame.checkpoint}, {duration(frame.checkpoint_age_s)} ago"
    else:
        yield "checkpoint", "none yet"
    if frame.evaluation is not None and frame.state in ("finishing", "complete"):
        yield "evaluation", _evaluated(frame.evaluation, config.env)


def _evaluated(result: dict[str, Any], env: str) -> str:
    where = physics_of(result["engine"], env)
    if "groups" in result:
        best = max(group["mean"] for group in result["groups"])
        return f"{best:,.1f}, the best mean over seeds; {result['episodes']} episodes each ({where})"
    return f"{result['mean']:,.1f} ± {result['std']:,.1f} over {result['episodes']} episodes ({where})"


def _curves(frame: Frame) -> Iterator[tuple[str, RenderableType]]:
    """Newest value and sparkline of the main metrics, and of the return of each policy."""
    several = len(frame.tails) > 1
    for tail in frame.tails[:_MAX_POLICIES]:
        metric = next((name for name in _RETURNS if name in tail.newest), _RETURNS[-1])
        yield from _curve(tail.rows, metric, tail.path.parent.name if several else "return")
        yield from _curve(tail.evaluations, RETURN, "  evaluated" if several else "evaluated")
    if len(frame.tails) > _MAX_POLICIES:
        yield "", f"and {len(frame.tails) - _MAX_POLICIES} more policies"
    if not several:
        yield from _curve(frame.tails[0].rows, "episode_length", "length")
    yield from _curve(frame.tails[0].rows, "env_steps_per_s", "steps/s each" if several else "steps/s")


def _curve(rows: list[Row], name: str, label: str) -> Iterator[tuple[str, RenderableType]]:
    values = [row[name] for row in rows if row.get(name) is not None]
    if values:
        number = human(values[-1]) if name == "env_steps_per_s" else f"{values[-1]:,.1f}"
        yield label, _NumberAndSparkline(f"{number:>9}  ", values)


@dataclass(frozen=True)
class _NumberAndSparkline:
    """The newest value, and a sparkline of all that is as wide as there is room."""

    number: str
    values: list[float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = min(_SPARK_WIDTH, options.max_width - len(self.number))
        curve = sparkline(self.values, room) if room > 0 else ""
        yield Text.assemble((self.number, "bold"), (curve, "cyan"), no_wrap=True)


def _hint(frame: Frame) -> str:
    if frame.state == "starting":
        return "compiling, or reading the program from the cache"
    if frame.state == "stopped":
        run = shlex.quote(str(frame.run_dir))
        return f"stopped before its budget; go on with: {program()} train --resume --run-dir {run}"
    if frame.state == "training" and frame.silent_s > _SILENCE_S:
        return f"nothing new for {duration(frame.silent_s)}"
    return ""


def sparkline(values: list[float], width: int = _SPARK_WIDTH) -> str:
    """The values over time as one line of block characters; each character shows the mean of a part of them."""
    parts = np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = means.min(), means.max()
    scaled = (means - low) / (high - low) if high > low else np.full(len(means), 0.5)
    return "".join(_BLOCKS[round(level * (len(_BLOCKS) - 1))] for level in scaled)
