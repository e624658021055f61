"""One run's metric over environment steps or time, read from metrics.jsonl and smoothed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mjxppo.config.values import flatten, read_yaml
from mjxppo.errors import UserError, hint
from mjxppo.files import read_json
from mjxppo.run.directory import CONFIG, EVAL
from mjxppo.run.metrics import JSONL, RETURN, Row, read_evaluations, read_rows

XAxis = Literal["env_steps", "time_s"]
Settings = dict[str, Any]

# Runs that differ only in these fields are drawn as one curve.
_IGNORED = ("env", "seed", "num_devices", "log", "checkpoint", "eval", "ppo.block_size")


class NoValues(UserError):
    """A run has not logged a value of the metric yet."""


class UnknownMetric(UserError):
    """A run logs no metric of this name."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation in Gymnasium after training, or the mean of several runs' evaluations."""

    mean: float
    std: float
    over: str
    """The samples that mean and standard deviation are over, as text, such as "100 episodes"."""


@dataclass(frozen=True)
class Run:
    """One run's metric, oldest first; points without a value are left out."""

    directory: Path
    metric: str
    env: str
    seed: int | None
    settings: Settings | None
    """The configured fields, except ``_IGNORED``, by dotted name; None where config.yaml is missing."""
    x: np.ndarray
    """Environment steps, or seconds, [points]."""
    y: np.ndarray
    """The metric as logged, [points]."""
    smooth: np.ndarray
    """The metric averaged over the last episodes, [points]."""
    evaluation: Evaluation | None
    evaluated: tuple[np.ndarray, np.ndarray] | None = None
    """Where the policy was evaluated while training, and the mean returns, [evaluations] each; None where ``y`` is
    another metric than a return of training, or there is none."""


def read_run(directory: Path, y: str, x: XAxis, smooth: int) -> Run:
    """Reads one run's metric ``y`` over ``x``; arguments as ``mjxppo.analysis.plot.plot`` takes them.

    Raises:
        NoValues: the metric has no values yet.
        UserError: there is no such metric (the message names the nearest), or the file holds no metrics.
    """
    rows = _rows(directory)
    evaluations = read_evaluations(directory)
    _check_metric([*rows, *evaluations], y, directory)
    steps = _column(rows, "env_steps")
    positions = steps if x == "env_steps" else _training_time(steps, _column(rows, "time_s"))
    where = np.interp(_column(evaluations, "env_steps"), steps, positions)
    if y.startswith("eval/"):
        rows, positions = evaluations, where
    values = _column(rows, y)
    of_episodes = y.startswith("episode_")
    weights = np.nan_to_num(_column(rows, "episodes")) if of_episodes else np.ones(len(rows))
    kept = np.isfinite(positions) & np.isfinite(values) & (weights > 0)
    if not kept.any():
        reason = "; no episode has finished" if of_episodes else ""
        raise NoValues(f"{directory / JSONL}: {y} has no values yet{reason}")
    positions, values, weights = positions[kept], values[kept], weights[kept]
    averaged = trailing_mean(values, weights, smooth) if of_episodes else values
    env, seed, settings = _configured(directory)
    if y not in ("episode_return", "expected_return"):
        return Run(directory, y, env, seed, settings, positions, values, averaged, None)
    returns = _column(evaluations, RETURN)
    sound = np.isfinite(returns)
    evaluated = (where[sound], returns[sound]) if sound.any() else None
    return Run(directory, y, env, seed, settings, positions, values, averaged, _evaluation(directory), evaluated)


def _rows(directory: Path) -> list[Row]:
    path = directory / JSONL
    try:
        rows = read_rows(directory)
        empty = not rows and path.stat().st_size == 0
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if empty:
        raise NoValues(f"{path}: is empty; the run has not finished its first updates")
    if not rows or not all("env_steps" in row for row in rows):
        raise UserError(f"{path}: holds lines that are no metrics of a run")
    return rows


def _check_metric(rows: list[Row], name: str, directory: Path) -> None:
    known = sorted({key for row in rows for key, value in row.items() if not isinstance(value, str | list | dict)})
    if name not in known:
        full = min((metric for metric in known if name in metric), key=len, default=name)  # "kl" means approx_kl
        raise UnknownMetric(f"y: {directory / JSONL} has no metric {name!r}; {hint(full, known)}")


def _column(rows: list[Row], name: str) -> np.ndarray:
    """One metric, [rows] float64, NaN where it has no value."""
    values = [row.get(name) for row in rows]
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], np.float64)


def _training_time(steps: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Seconds of training at each update, [rows], from the clock readings in ``time``.

    The clock is read once for several updates, so the times of the updates between two readings are interpolated. It
    starts from zero when a run is resumed, so the time before the resume is added.
    """
    restarts = np.diff(time, prepend=0) < 0
    time = time + np.cumsum(np.where(restarts, np.roll(time, 1), 0))
    last = np.append(np.diff(time) != 0, True)  # a reading is exact for the last update before it
    return np.interp(steps, np.append(0, steps[last]), np.append(0, time[last]))


def trailing_mean(values: np.ndarray, weights: np.ndarray, window: float) -> np.ndarray:
    """At each point the mean over the last points that together weigh at least ``window``, [points].

    The point itself is always included. Where all points up to it weigh less than ``window``, all are included. The
    weights [points] are positive, such as the number of episodes that a value is the mean of.
    """
    total = np.append(0, np.cumsum(weights))
    sums = np.append(0, np.cumsum(weights * values))
    end = np.arange(1, len(values) + 1)
    start = np.searchsorted(total, total[end] - window, side="right") - 1
    start = np.clip(start, 0, end - 1)
    return (sums[end] - sums[start]) / (total[end] - total[start])


def recent_returns(rows: list[Row], episodes: float) -> np.ndarray:
    """The mean return of the last finished episodes, at least ``episodes`` of them, after each update, [rows].

    It is -inf while fewer have finished: a mean over few episodes may reach a target by chance.
    """
    finished = np.array([row["episodes"] for row in rows], float)
    returns = np.array([row["episode_return"] or 0.0 for row in rows])
    means = np.full(len(rows), -np.inf)
    some = finished > 0
    if some.any():
        means[some] = trailing_mean(returns[some], finished[some], episodes)
    return np.where(np.cumsum(finished) >= episodes, means, -np.inf)


def steps_to_return(rows: list[Row], target: float, episodes: float) -> int | None:
    """Environment steps until ``recent_returns`` first reaches ``target``; None where it never does."""
    reached = recent_returns(rows, episodes) >= target
    return int(rows[int(reached.argmax())]["env_steps"]) if reached.any() else None


def _configured(directory: Path) -> tuple[str, int | None, Settings | None]:
    """The task, the seed and the settings in a run's config.yaml; the directory's name where there is none."""
    try:
        config = read_yaml(directory / CONFIG)
    except UserError:
        return directory.name, None, None
    flat = flatten(config)
    settings = {
        name: value for name, value in flat.items() if name not in _IGNORED and name.split(".")[0] not in _IGNORED
    }
    return str(config.get("env", directory.name)), config.get("seed"), settings


def _evaluation(directory: Path) -> Evaluation | None:
    try:
        content = read_json(directory / EVAL) or {}
        if content["engine"] != "gymnasium":
            return None
        return Evaluation(float(content["mean"]), float(content["std"]), f"{content['episodes']} episodes")
    except (ValueError, KeyError, TypeError):
        return None
