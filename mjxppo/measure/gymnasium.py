"""Throughput through Gymnasium's interface: this package's vector environment and Gymnasium's own, in turns.

All are stepped by ``step`` with NumPy arrays in and out, with autoreset and infos, as a trainer does.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from mjxppo import envs
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError
from mjxppo.interop.gymnasium import make_vec
from mjxppo.measure.arguments import check_known
from mjxppo.measure.gymnasium_process import measure_rate, serve
from mjxppo.run.machine import describe

MODES = ("mjxppo", "sync", "async")
"""This package's vector environment, and Gymnasium's two: in one process, and with a process (about 30 MB) for each
world."""


def measure_gymnasium(
    tasks: Sequence[str] = ("half_cheetah",),
    modes: Sequence[str] = ("mjxppo", "sync"),
    num_envs: int = 1024,
    seconds: float = 2.0,
    repeats: int = 5,
) -> dict[str, Any]:
    """Measures vector environments in ``repeats`` rounds of some seconds; results are medians.

    Args:
        tasks: canonical names of this package's tasks.
        modes: elements of ``MODES``.
        num_envs: number of worlds stepped together.
        seconds: length of a round.
        repeats: number of rounds.

    Returns:
        ``{"hardware", "versions", "results"}``, for each task and mode ``env_steps_per_s``, its extremes, and
        ``ratio_to_sync``, its ratio to that of "sync" (None where "sync" is not measured).

    Raises:
        UserError: a task or mode is unknown, or cannot run on this machine.
    """
    check_known("tasks", tasks, [name for name, entry in TASKS.items() if entry.in_gymnasium])
    check_known("modes", modes, MODES)
    results = [row for task in tasks for row in _run_task(task, modes, num_envs, seconds, repeats)]
    return {**describe(), "results": results}


def _run_task(task: str, modes: Sequence[str], num_envs: int, seconds: float, repeats: int) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        measures = {mode: stack.enter_context(_prepared(task, mode, num_envs)) for mode in modes}
        rounds = [{mode: measure(seconds) for mode, measure in measures.items()} for _ in range(repeats)]
    rows = []
    for mode in modes:
        speeds = [one[mode] for one in rounds]
        ratio = float(np.median([one[mode] / one["sync"] for one in rounds])) if "sync" in modes else None
        extremes = {"env_steps_per_s_min": min(speeds), "env_steps_per_s_max": max(speeds), "ratio_to_sync": ratio}
        row = {"env": task, "mode": mode, "num_envs": num_envs, "env_steps_per_s": float(np.median(speeds))}
        rows.append(row | extremes)
    return rows


@contextmanager
def _prepared(task: str, mode: str, num_envs: int) -> Iterator[Callable[[float], float]]:
    """A function that measures a compiled vector environment for some seconds and returns its steps per second."""
    spec, rng = envs.make(task).actions, np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (16, num_envs, spec.size)).astype(np.float32)
    if spec.categories:
        actions = spec.decode(rng.integers(0, spec.categories, actions.shape))
    if mode == "mjxppo":
        ours = make_vec(task, num_envs)
        ours.reset(seed=0)
        measure_rate(ours, actions, 0.5)
        yield lambda seconds: measure_rate(ours, actions, seconds)
        return
    gym_id = TASKS[task].gym_id
    assert gym_id is not None
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, gym_id, num_envs, mode, actions))
    process.start()
    there.close()

    def measure(seconds: float) -> float:
        here.send(seconds)
        return here.recv()

    try:
        here.recv()
        yield measure
        here.send(None)
        process.join()
    except EOFError as error:
        raise UserError(f"modes: {mode} with {num_envs} worlds does not run on this machine") from error
    finally:
        process.kill()
