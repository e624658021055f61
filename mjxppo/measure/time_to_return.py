"""Seconds from the start of the program until the policy has a given return.

Each seed is one process, ``mjxppo train`` with a shipped configuration, which saves a checkpoint every few updates.
When it has ended, its checkpoints are evaluated without noise in the actions in Gymnasium's C MuJoCo. The time to a
mark is the time at which the first checkpoint with at least that return was complete on the disk. It includes the time
to save these checkpoints.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mjxppo.config.values import defaults_for
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import evaluate
from mjxppo.run import checkpoint, machine
from mjxppo.run.directory import CKPT
from mjxppo.run.load import load
from mjxppo.run.metrics import read_rows

EPISODES = 20
_FIRST_EVALUATION_SEED = 1_000_000
_EVERY_STEPS = 655_360
"""Environment steps between checkpoints, in whole updates: about 2 s of training on two cores."""
MARKS = {"half_cheetah": (5000, 8000, 10000), "hopper": (3000,), "walker2d": (3000, 5000)}
"""Returns whose times are measured by default, by task."""


class Point(NamedTuple):
    """Time, environment steps and return of a checkpoint."""

    seconds: float
    """Time from the start of the process until the checkpoint was complete."""
    env_steps: int
    episode_return: float
    """Mean return over episodes of the deterministic policy in Gymnasium's C MuJoCo."""


def measure_time_to_return(
    task: str, marks: Sequence[float], seeds: Sequence[int], cold: bool, options: Sequence[str]
) -> dict[str, Any]:
    """Trains with each seed and measures the time to each mark.

    Args:
        task: the task's canonical name.
        marks: the returns whose times are measured.
        seeds: their processes run one after the other.
        cold: start every process with an empty compilation cache, instead of a filled one.
        options: further options of ``mjxppo train``.

    Returns:
        For each mark the median, least and greatest seconds over seeds, and for each seed the seconds and the
        environment steps (None where the run ended before the mark).

    Raises:
        UserError: a process failed, or Gymnasium does not have the task.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if not cold:
            _train(task, seeds[0], directory / "warm", directory / "cache", [*options, "--total-env-steps", "1"])
        reached = []
        for seed in seeds:
            cache = directory / (f"cache-{seed}" if cold else "cache")
            started = _train(task, seed, directory / str(seed), cache, options)
            reached.append(first_times(marks, _checkpoints(directory / str(seed), started)))
    cache_is = "cold" if cold else "warm"
    results = [
        {"env": task, "return": mark, "cache": cache_is, **statistics_of([each[mark] for each in reached])}
        for mark in marks
    ]
    return {**machine.describe(), "seeds": list(seeds), "options": list(options), "results": results}


def _train(task: str, seed: int, run_dir: Path, cache: Path, options: Sequence[str]) -> float:
    """Trains to the end in a process of its own; returns the wall-clock time at which the process was started."""
    steps_per_update = math.prod(defaults_for(task)["ppo"][size] for size in ("num_envs", "rollout_length"))
    every, keep_all = str(max(1, _EVERY_STEPS // steps_per_update)), "1000000"
    command = [sys.executable, "-m", "mjxppo.cli", "train", "--env", task, "--seed", str(seed)]
    command += ["--run-dir", str(run_dir), "--eval.episodes", "0", "--eval.no-video"]
    command += ["--checkpoint.every-updates", every, "--checkpoint.keep-latest", keep_all, *options]
    started = time.time()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, cwd=run_dir.parent, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"benchmark: training {task} failed: {done.stderr}")
    return started


def _checkpoints(run_dir: Path, started: float) -> Iterator[Point]:
    """The run's checkpoints, oldest first; each is evaluated when the iterator reaches it."""
    env_steps = {row["update"]: row["env_steps"] for row in read_rows(run_dir)}
    for number in reversed(checkpoint.steps(run_dir / CKPT)):
        step = run_dir / CKPT / str(number)
        loaded = load(step)
        result = evaluate(loaded.policy, loaded.config, "gymnasium", EPISODES, _FIRST_EVALUATION_SEED)
        complete_at = (step / checkpoint.CHECKSUMS).stat().st_mtime
        yield Point(complete_at - started, env_steps[number], result["mean"])


def first_times(marks: Sequence[float], points: Iterable[Point]) -> dict[float, Point | None]:
    """The first point with at least the return of each mark, or None; stops when all marks are reached."""
    first: dict[float, Point | None] = dict.fromkeys(marks)
    for point in points:
        for mark in marks:
            if first[mark] is None and point.episode_return >= mark:
                first[mark] = point
        if None not in first.values():
            break
    return first


def statistics_of(points: Sequence[Point | None]) -> dict[str, Any]:
    """Median, least and greatest of the seeds' seconds; a seed that never reached the return counts as infinite."""
    seconds = [point.seconds if point is not None else float("inf") for point in points]
    median, most = statistics.median(seconds), max(seconds)
    return {
        "median_s": median if median != float("inf") else None,
        "min_s": min((value for value in seconds if value != float("inf")), default=None),
        "max_s": most if most != float("inf") else None,
        "each_s": [round(point.seconds, 1) if point is not None else None for point in points],
        "each_env_steps": [point.env_steps if point is not None else None for point in points],
    }
