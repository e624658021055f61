"""Seconds to trace and to compile the environment step and the training program, without a cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mjxppo import envs
from mjxppo.config.check import make_config
from mjxppo.config.values import defaults_for
from mjxppo.policy.processes import process_pool
from mjxppo.run import start
from mjxppo.run.machine import describe

PROGRAMS = ("step", "train")
_WORLDS = 256


def measure_compilation(tasks: Sequence[str]) -> dict[str, Any]:
    """Measures the compilation of each program in a process of its own, one after the other.

    Returns:
        ``{"hardware", "versions", "results"}``; for each task ``step_trace_s`` and ``step_compile_s`` of the
        environment step of 256 worlds, and the same of the training program of the shipped configuration.
    """
    jobs = [(task, program) for task in tasks for program in PROGRAMS]
    # New processes: a program must not benefit from what another has traced. They run before this process starts its
    # own backend, which would take the memory of a GPU.
    with process_pool(1, max_tasks_per_child=1) as pool:
        seconds = list(pool.map(_measure, *zip(*jobs, strict=True))) if jobs else []
    results: dict[str, dict[str, Any]] = {task: {"env": task} for task in tasks}
    for (task, program), (trace, compile_) in zip(jobs, seconds, strict=True):
        results[task] |= {f"{program}_trace_s": trace, f"{program}_compile_s": compile_}
    return {**describe(), "results": list(results.values())}


def _measure(task: str, program: str) -> tuple[float, float]:
    """Seconds to trace and to compile."""
    jax.config.update("jax_enable_compilation_cache", False)
    lower = (_step if program == "step" else _training)(task)
    started = time.perf_counter()
    lowered = lower()
    traced = time.perf_counter()
    lowered.compile()
    return traced - started, time.perf_counter() - traced


def _step(task: str) -> Callable[[], Any]:
    """A function that traces the environment step."""
    env = envs.make(task)
    state = jax.eval_shape(env.reset, jax.random.split(jax.random.key(0), _WORLDS))
    return partial(jax.jit(env.step).lower, state, jax.ShapeDtypeStruct((_WORLDS, env.action_size), jnp.float32))


def _training(task: str) -> Callable[[], Any]:
    """A function that traces the training program."""
    return start.build(make_config(defaults_for(task))).lower
