"""Seconds from the start of the program until training returns pass given marks: what a user waits for.

Each seed is a process of its own, ``mjxppo train`` with a shipped configuration, and is stopped at the last mark. A
mark is passed when the last 100 finished training episodes, which the policy acts in with its noise, average to it.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjxppo import machine
from mjxppo.errors import UserError
from mjxppo.metrics import Row, read_rows
from mjxppo.plot.curves import trailing_mean

EPISODES = 100
_POLL_S = 0.1

MARKS = {"half_cheetah": (5000, 8000, 10000), "hopper": (3000,), "walker2d": (3000, 5000)}
"""Returns to wait for, by task."""


def run(task: str, marks: Sequence[float], seeds: Sequence[int], cold: bool, options: Sequence[str]) -> dict[str, Any]:
    """Trains with each seed until the last mark.

    Args:
        task: the task's canonical name.
        marks: returns to wait for, in rising order.
        seeds: one process each, one after the other.
        cold: start every process with an empty compilation cache, instead of a filled one.
        options: further options of ``mjxppo train``.

    Returns:
        For each mark the median, least and greatest seconds over seeds, and the seconds of each seed; None where a
        run ended before the mark.

    Raises:
        UserError: a process failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory) / "cache"
        if not cold:
            _one(task, -1e9, seeds[0], Path(directory) / "warm", cache, options)
        seconds = []
        for seed in seeds:
            own_cache = Path(directory) / f"cache-{seed}" if cold else cache
            rows, arrived = _one(task, marks[-1], seed, Path(directory) / f"run-{seed}", own_cache, options)
            seconds.append([passed(rows, arrived, mark) for mark in marks])
    results = [
        {
            "task": task,
            "return": mark,
            "cache": "cold" if cold else "warm",
            **statistics_of([own[i] for own in seconds]),
        }
        for i, mark in enumerate(marks)
    ]
    return {**machine.describe(), "seeds": list(seeds), "options": list(options), "results": results}


def statistics_of(seconds: list[float | None]) -> dict[str, Any]:
    """Median, least and greatest of the seeds' seconds; a seed that never passed the mark counts as infinite."""
    reached = [value if value is not None else float("inf") for value in seconds]
    median = statistics.median(reached)
    finite = [value for value in seconds if value is not None]
    return {
        "median_s": median if median != float("inf") else None,
        "min_s": min(finite, default=None),
        "max_s": max(finite) if len(finite) == len(seconds) else None,
        "each_s": seconds,
    }


def _one(
    task: str, last_mark: float, seed: int, run_dir: Path, cache: Path, options: Sequence[str]
) -> tuple[list[Row], list[float]]:
    """One training run up to the last mark: its rows, and the seconds after which each could be read."""
    command = [
        sys.executable,
        "-m",
        "mjxppo.cli",
        "train",
        "--env",
        task,
        "--seed",
        str(seed),
        "--run-dir",
        str(run_dir),
    ]
    command += ["--eval.episodes", "0", "--eval.no-video", *options]
    started = time.perf_counter()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    process = subprocess.Popen(
        command, env=environment, cwd=run_dir.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    rows: list[Row] = []
    arrived: list[float] = []
    running = True
    try:
        while running and not (rows and averages(rows)[-1] >= last_mark):
            time.sleep(_POLL_S)
            running = process.poll() is None
            rows = read_rows(run_dir)
            arrived += [time.perf_counter() - started] * (len(rows) - len(arrived))
        if process.returncode:
            error = process.stderr.read() if process.stderr else ""
            raise UserError(f"benchmark: training {task} failed: {error}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    return rows, arrived


def averages(rows: list[Row]) -> np.ndarray:
    """After each update the mean return of the last finished episodes; -inf before any has finished, [rows]."""
    episodes = np.array([row["episodes"] for row in rows], float)
    returns = np.array([row["episode_return"] or 0.0 for row in rows])
    averages = np.full(len(rows), -np.inf)
    finished = episodes > 0
    if finished.any():
        averages[finished] = trailing_mean(returns[finished], episodes[finished], EPISODES)
    # A mean over a handful of episodes may pass a mark by luck.
    return np.where(np.cumsum(episodes) >= EPISODES, averages, -np.inf)


def passed(rows: list[Row], arrived: list[float], mark: float) -> float | None:
    """When the first row arrived whose average is at the mark, or None."""
    at_mark = np.flatnonzero(averages(rows) >= mark)
    return arrived[at_mark[0]] if len(at_mark) else None
