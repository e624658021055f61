"""Seconds from the start of the program until training returns pass a mark: what a user waits for.

Each mark and seed is a process of its own: ``mjxppo train`` with a shipped configuration, stopped where the last 100
finished training episodes, in which the policy acts with its noise, average to the mark. What it saved is then
evaluated without noise in Gymnasium's C MuJoCo.
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
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.evaluate import evaluate
from mjxppo.locate import load
from mjxppo.metrics import Row, read_rows
from mjxppo.plot.curves import trailing_mean

EPISODES = 100
EVALUATED_EPISODES = 20
_POLL_S = 0.1

MARKS = {"half_cheetah": (5000, 8000, 10000), "hopper": (3000,), "walker2d": (3000, 5000)}
"""Returns to wait for, by task."""


def run(task: str, marks: Sequence[float], seeds: Sequence[int], cold: bool, options: Sequence[str]) -> dict[str, Any]:
    """Trains with each seed until each mark.

    Args:
        task: the task's canonical name.
        marks: returns to wait for.
        seeds: for each mark one process each, one after the other.
        cold: start every process with an empty compilation cache, instead of a filled one.
        options: further options of ``mjxppo train``.

    Returns:
        For each mark the median, least and greatest seconds over seeds, the seconds of each seed (None where a run
        ended before the mark), and the evaluated returns.

    Raises:
        UserError: a process failed.
    """
    results = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if not cold:
            _one(task, -1e9, seeds[0], directory / "warm", directory / "cache", options)
        for mark in marks:
            runs = [directory / f"{mark}-{seed}" for seed in seeds]
            caches = [directory / f"cache-{mark}-{seed}" if cold else directory / "cache" for seed in seeds]
            pairs = zip(seeds, runs, caches, strict=True)
            seconds = [_one(task, mark, seed, run_dir, cache, options) for seed, run_dir, cache in pairs]
            evaluated = [_evaluated(run_dir) for run_dir in runs]
            row = {"task": task, "return": mark, "cache": "cold" if cold else "warm", **statistics_of(seconds)}
            results.append(row | {"evaluated_returns": evaluated})
    return {**machine.describe(), "seeds": list(seeds), "options": list(options), "results": results}


def _evaluated(run_dir: Path) -> float | None:
    """Mean return of the saved policy without noise; None for a task that Gymnasium does not have."""
    loaded = load(run_dir)
    if gym_id_of(loaded.config.env) is None:
        return None
    return float(evaluate(loaded.policy, loaded.config, "gymnasium", EVALUATED_EPISODES, 1_000_000)["mean"])


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


def _one(task: str, mark: float, seed: int, run_dir: Path, cache: Path, options: Sequence[str]) -> float | None:
    """Trains until the mark; the seconds it took from the process's start, or None where the run ended before."""
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
    process = subprocess.Popen(
        command,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        cwd=run_dir.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None:
            time.sleep(_POLL_S)
            rows = read_rows(run_dir)
            if rows and averages(rows)[-1] >= mark:
                return time.perf_counter() - started
        if process.returncode:
            raise UserError(f"benchmark: training {task} failed: {process.stderr.read() if process.stderr else ''}")
        return None
    finally:
        process.send_signal(signal.SIGTERM)  # it saves, then stops
        process.communicate()


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
