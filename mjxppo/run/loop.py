"""The training loop on the host: calls the device program, logs, saves, and handles signals."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mjxppo import xla
from mjxppo.config.sweep import member_directories, members_of
from mjxppo.console import ProgressLine, say, waiting
from mjxppo.files import WriteFailed, attempt
from mjxppo.ppo import counters
from mjxppo.ppo.program import TrainingProgram, env_steps_of
from mjxppo.ppo.state import TrainState
from mjxppo.run import distill, distributed, finetune, health, machine, start
from mjxppo.run.checkpoint import CheckpointWriter
from mjxppo.run.directory import CKPT
from mjxppo.run.load import Loaded
from mjxppo.run.metrics import JSONL, MetricsWriter, Row, clean
from mjxppo.run.signals import StopRequest, stopping_at_once

_SLOW_CALL_S = 8.0
"""Longest device call without a warning: a run has to stop within 10 s of a signal, and saving takes a part of that."""
_NOT_LOGGED = ("ran", "env_steps_high", "env_steps_low")


class TrainingFailed(Exception):
    """Training cannot go on, or its last state could not be saved; the last good checkpoint is kept."""

    def __init__(self, message: str, nonfinite: tuple[int, int] | None = None):
        super().__init__(message)
        self.nonfinite = nonfinite
        """Where non-finite numbers are the reason: the first update that had any, and the index of its policy."""


class Outcome(NamedTuple):
    """How a training loop ended."""

    env_steps: int
    """Environment steps of the whole run, those before a resume included; of each policy, where there are several."""
    new_env_steps: int
    """Environment steps of this program's part of it, of all policies together."""
    updates: int
    expected_return: float | None
    """Mean of the metric of that name over the last device call's steps, and over policies, where there are several."""
    train_s: float
    """Seconds in the training loop, without compilation."""
    compile_s: float
    exit_code: int
    """0, or 128 + the signal that stopped the run."""


class Callbacks(NamedTuple):
    """Functions that the training loop calls. An exception in one ends the run at its last checkpoint."""

    metrics: Callable[[list[Row]], object] = lambda rows: None
    """Called after each device call with the rows of its updates (of the first policy, where there are several);
    if it returns True, training stops as at its end."""
    checkpoint: Callable[[Path], object] = lambda step: None
    """Called with the folder of each checkpoint that has become whole."""


def train(
    program: TrainingProgram,
    run_dir: Path,
    resume: bool = False,
    callbacks: Callbacks = Callbacks(),  # noqa: B008
    source: Loaded | None = None,
) -> Outcome:
    """Trains to ``total_env_steps`` in an open run directory.

    Args:
        program: from ``start.build``.
        run_dir: where metrics and checkpoints go.
        resume: go on from the newest whole checkpoint, or from the start where none has been written yet.
        callbacks: called with metrics and checkpoints.
        source: the policy of ``init.path``, if it has been read already.

    Raises:
        UserError: the checkpoint does not fit the configuration, or none is whole.
        TrainingFailed: too many worlds became non-finite, the run could not be saved, or an environment on the host
            failed.
    """
    xla.enable_compilation_cache()
    config = program.config
    restored = start.restore(program, run_dir / CKPT) if resume else None
    total = program.budget(config.total_env_steps)
    started = time.perf_counter()
    with (
        waiting("compiling the training program (once for each configuration; later starts find it in the cache)"),
        stopping_at_once(),
        ThreadPoolExecutor(1) as background,
    ):
        # XLA compiles most of the program on one core; the worlds are made on another at the same time.
        compilation = background.submit(program.lower().compile)
        state = restored or program.init()
        compiled = compilation.result()
        distributed.wait_for_all("compiled")
    compile_s = time.perf_counter() - started
    if restored is None:
        state = distill.add_teacher(program, finetune.carry_over(program, state, source))
    first_update = int(_host(state.update))
    if distributed.is_first():
        machine.record(run_dir, first_update)
    loop = _Loop(program, run_dir, first_update, callbacks)
    try:
        outcome = loop.run(compiled, state, total, compile_s, program.layout.num_devices)
    except BaseException as error:
        # Closing needs all processes; of several, only TrainingFailed is raised on all of them.
        if not distributed.several() or isinstance(error, TrainingFailed):
            loop.close()
        failure = program.env.failure
        if failure is None or not isinstance(error, jax.errors.JaxRuntimeError):
            raise
        what = f"{type(failure).__name__}: {failure}"
        # The save under way was completed when the loop was closed.
        raise TrainingFailed(f"{program.env.name} failed on the host: {what}; {loop.last_good()}") from error
    loop.close()
    return outcome


def _host(x: jax.Array) -> np.ndarray:
    """The value of a replicated array, []; all members have the same, where there are several."""
    value: np.ndarray = np.asarray(x).ravel()[0]
    return value


class _Loop:
    """A run's open files, and how far it has trained."""

    def __init__(self, program: TrainingProgram, run_dir: Path, first_update: int, callbacks: Callbacks):
        self.config = config = program.config
        self.directory = run_dir
        self.callbacks = callbacks
        self.stop_wanted = False
        directories = member_directories(run_dir, config)
        self.metrics = [
            MetricsWriter(directory, resume_after=first_update, config=member.config)
            for directory, member in zip(directories, members_of(config), strict=True)
            if distributed.is_first()
        ]
        for directory, metrics in zip(directories, self.metrics, strict=False):
            if metrics.missing:
                say(
                    f"{directory / JSONL} was damaged: of the {first_update} updates before, the metrics of "
                    f"{metrics.missing} are lost"
                )
        self.checkpoints = CheckpointWriter(run_dir / CKPT, config)
        self.reported_step = self.checkpoints.newest
        self.saved_update = first_update
        self.update = first_update
        self.reported_errors: set[str] = set()
        self.warned_of_slow_calls = False
        self.env_steps = 0
        self.returns: list[float | None] = [None] * len(directories)

    @property
    def expected_return(self) -> float | None:
        """Mean over the members of which it is known."""
        known = [value for value in self.returns if value is not None]
        return sum(known) / len(known) if known else None

    def close(self) -> None:
        """Closes all files; ignores WriteFailed, because the error that ended the run has been reported."""
        with contextlib.suppress(WriteFailed):
            self.checkpoints.close()
        for metrics in self.metrics:
            metrics.close()

    def run(
        self, compiled: Any, state: TrainState, total: counters.Counter, compile_s: float, num_devices: int
    ) -> Outcome:
        config = self.config
        self.env_steps = first_env_steps = counters.to_int(jax.tree.map(_host, state.env_steps))
        started = time.perf_counter()
        with (
            StopRequest() as stop,
            ProgressLine(f"{config.env} on {num_devices} devices", config.total_env_steps, self.env_steps) as line,
        ):
            while self.env_steps < config.total_env_steps and not self._stop_requested(stop):
                chunk_started = time.perf_counter()
                state, metrics = compiled(state, total)
                rows = self._rows(jax.device_get(metrics), started, chunk_started)
                self._warn_of_slow_calls(time.perf_counter() - chunk_started)
                self._write(partial(self._log, rows))
                newest = rows[0][-1]
                speed, extent = len(rows) * newest["env_steps_per_s"], newest.get("randomization_extent")
                line.update(self.env_steps, speed, self.expected_return, extent)
                self._check_health(rows)
                self.stop_wanted = distributed.is_first() and self.callbacks.metrics(rows[0]) is True
                self._write(self.checkpoints.poll)
                self._report_checkpoint()
                if self.update - self.saved_update >= config.checkpoint.every_updates:
                    self._save(state)
            self._save_last(state)
            self._report_checkpoint()
        return Outcome(
            env_steps=self.env_steps,
            new_env_steps=len(self.returns) * (self.env_steps - first_env_steps),
            updates=self.update,
            expected_return=self.expected_return,
            train_s=time.perf_counter() - started,
            compile_s=compile_s,
            exit_code=stop.exit_code if self.env_steps < config.total_env_steps else 0,
        )

    def _stop_requested(self, stop: StopRequest) -> bool:
        """Whether a signal or a callback on any process has requested a stop; all stop at the same update."""
        signal_number, enough = distributed.max_over_processes(stop.signal_number or 0, self.stop_wanted)
        if signal_number:
            stop.signal_number = signal_number
        return bool(signal_number or enough)

    def _warn_of_slow_calls(self, seconds: float) -> None:
        if seconds > _SLOW_CALL_S and not self.warned_of_slow_calls:
            self.warned_of_slow_calls = True
            say(
                f"a device call takes {seconds:.0f} s, and Ctrl-C and SIGTERM are seen between calls only; "
                f"log.every_updates below {self.config.log.every_updates} would make them prompter"
            )

    def _report_checkpoint(self) -> None:
        newest = self.checkpoints.newest
        if newest is not None and newest != self.reported_step and distributed.is_first():
            self.callbacks.checkpoint(self.directory / CKPT / str(newest))
        self.reported_step = newest

    def _save(self, state: TrainState) -> None:
        def save() -> None:
            self._sync_metrics()
            self.checkpoints.save(self.update, state, self.expected_return)
            self.reported_errors.clear()

        self._write(self.checkpoints.finish)
        self._report_checkpoint()
        self._write(save)
        self.saved_update = self.update

    def _save_last(self, state: TrainState) -> None:
        """Saves the last state, unless the newest checkpoint holds it."""
        self._write(self.checkpoints.finish)
        self._report_checkpoint()
        if self.update == self.checkpoints.newest:
            return
        try:
            self._sync_metrics()
            self.checkpoints.save(self.update, state, self.expected_return)
            self.checkpoints.finish()
        except WriteFailed as error:
            raise TrainingFailed(f"the last state is lost: {error}; {self.last_good()}") from error

    def _write(self, write: Callable[[], None]) -> None:
        """Calls ``write``; if that fails, stops or prints the error, as ``on_write_error`` says."""
        try:
            write()
        except WriteFailed as error:
            if self.config.on_write_error == "stop":
                raise TrainingFailed(f"{error}; {self.last_good_at_the_end()}") from error
            if str(error) not in self.reported_errors:
                say(f"{error}; going on (on_write_error), {self.last_good()}")
            self.reported_errors.add(str(error))

    def last_good_at_the_end(self) -> str:
        """As ``last_good``, after waiting for the save under way."""
        with contextlib.suppress(WriteFailed):
            self.checkpoints.finish()
        return self.last_good()

    def last_good(self) -> str:
        """The newest whole checkpoint, as part of a message."""
        newest = self.checkpoints.newest
        return "there is no checkpoint yet" if newest is None else f"the last good checkpoint is step {newest}"

    def _log(self, rows: list[list[Row]]) -> None:
        with distributed.failing_together(WriteFailed):
            attempt(partial(metrics.write, own) for metrics, own in zip(self.metrics, rows, strict=False))

    def _sync_metrics(self) -> None:
        with distributed.failing_together(WriteFailed):
            attempt(metrics.sync for metrics in self.metrics)

    def _rows(self, metrics: dict[str, np.ndarray], started: float, chunk_started: float) -> list[list[Row]]:
        """One row for each update of a device call, by member; its times are those at which the call ended."""
        now = time.perf_counter()
        env_steps_before = self.env_steps
        by_member = {name: values.reshape(len(self.returns), -1) for name, values in metrics.items()}
        rows = [
            self._member_rows(member, {name: values[member] for name, values in by_member.items()})
            for member in range(len(self.returns))
        ]
        speed = (self.env_steps - env_steps_before) / (now - chunk_started)
        times = {"env_steps_per_s": speed, "time_s": now - started}
        return [[clean(row | times) for row in own] for own in rows]

    def _member_rows(self, member: int, metrics: dict[str, np.ndarray]) -> list[Row]:
        rows: list[Row] = []
        for i in range(int(metrics["ran"].sum())):
            row = {name: values[i] for name, values in metrics.items()}
            self.env_steps, self.update = env_steps_of(row), int(row["update"])
            kept = {name: value for name, value in row.items() if name not in _NOT_LOGGED}
            rows.append({"update": self.update, "env_steps": self.env_steps} | kept)
        known = [row for row in rows if np.isfinite(row["expected_return"])]
        if known:
            # By steps, because an update that the budget cut short knows little.
            steps = [row["env_steps_this_update"] for row in known]
            self.returns[member] = float(np.average([row["expected_return"] for row in known], weights=steps))
        return rows

    def _check_health(self, rows_of_members: list[list[Row]]) -> None:
        """Raises TrainingFailed when too many steps of a device call were lost to non-finite numbers."""
        problem = health.problem_of(rows_of_members, self.config.ppo)
        if problem is not None:
            first = problem.update, problem.member
            raise TrainingFailed(f"{problem.message}; {self.last_good_at_the_end()}", nonfinite=first)
