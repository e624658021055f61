"""The training loop on the host: calls the device program, logs, saves, and handles signals."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mjxppo import envs, xla
from mjxppo.console import ProgressLine, say, waiting
from mjxppo.files import WriteFailed
from mjxppo.ppo import counters
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import TrainState
from mjxppo.ppo.unknown import with_nan
from mjxppo.run import distill, distributed, finetune, health, machine, start
from mjxppo.run.checkpoint import CheckpointWriter
from mjxppo.run.directory import CKPT
from mjxppo.run.evaluations import Evaluations
from mjxppo.run.health import TrainingFailed
from mjxppo.run.load import Loaded
from mjxppo.run.log import RunLog
from mjxppo.run.metrics import Row
from mjxppo.run.outcome import Outcome
from mjxppo.run.signals import StopRequest, stopping_at_once
from mjxppo.run.stopping import EndedBy

_SLOW_CALL_S = 8.0
"""Longest device call without a warning: a run has to stop within 10 s of a signal, and saving takes a part of that."""
_COMPILING = "compiling the training program (once for each configuration; later starts find it in the cache)"
_LONG_COMPILATION_S = 15.0
"""Seconds of compilation after which a line says so where there is no terminal."""


class Callbacks(NamedTuple):
    """Functions that the training loop calls. An exception in one ends the run at its last checkpoint."""

    metrics: Callable[[list[Row]], object] = lambda rows: None
    """Called after each device call with the rows of its updates (of the first policy, where there are several);
    if it returns True, training stops as at its end."""
    checkpoint: Callable[[Path], object] = lambda step: None
    """Called with the folder of each checkpoint that has become whole."""
    evaluation: Callable[[Row], object] = lambda row: None
    """Called with the row of each evaluation while training (of the first policy), once it is finished; if it returns
    True, training stops as at its end."""


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
        _naming_failures(program.env, lambda: "training had not begun"),
        waiting(_COMPILING, say_after_s=_LONG_COMPILATION_S),
        stopping_at_once(f"stopped before training began: {run_dir} holds no new checkpoint"),
        ThreadPoolExecutor(1) as background,
    ):
        # XLA compiles most of the program on one core; the worlds are made on another at the same time.
        compilation = background.submit(lambda: xla.compile_checked(program.lower()))
        state = restored or program.init()
        compiled = compilation.result()
        distributed.wait_for_all("compiled")
    compile_s = time.perf_counter() - started
    if restored is None:
        state = distill.add_teacher(program, finetune.carry_over(program, state, source))
    first_updates = _by_member(state.update).tolist()
    if distributed.is_first():
        machine.record(run_dir, max(first_updates), getattr(program.env.task.unwrapped, "physics", None))
    loop = _Loop(program, run_dir, first_updates, callbacks)
    with _naming_failures(program.env, loop.last_good):
        try:
            outcome = loop.run(compiled, state, total, compile_s, program.layout.num_devices)
        except BaseException as error:
            # Closing needs all processes; of several, only TrainingFailed is raised on all of them.
            if not distributed.several() or isinstance(error, TrainingFailed):
                loop.close()  # completes the save under way
            raise
    loop.close()
    return outcome


@contextlib.contextmanager
def _naming_failures(env: envs.Environment, last_good: Callable[[], str]) -> Iterator[None]:
    """Raises TrainingFailed in one line, which ``last_good`` ends, where an environment on the host has failed."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        failure = env.failure
        if failure is None:
            raise
        what = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
        raise TrainingFailed(f"{env.name} failed on the host: {what}; {last_good()}") from error


def _by_member(x: jax.Array) -> np.ndarray:
    """A replicated number of each member, [members]."""
    return np.asarray(x).reshape(-1)


class _Loop:
    """A run's open files, and how far it has trained."""

    def __init__(self, program: TrainingProgram, run_dir: Path, first_updates: list[int], callbacks: Callbacks):
        """``first_updates`` are the updates that each member has done before."""
        self.config = config = program.config
        self.directory = run_dir
        self.callbacks = callbacks
        self.ended_by: EndedBy | None = None
        self.log = RunLog(run_dir, config, first_updates)
        task = envs.make(program.env.task.unwrapped)
        self.evaluations = Evaluations(config, task, self.log, self._on_evaluation, self._write)
        self.checkpoints = CheckpointWriter(run_dir / CKPT, config, self.log.update)
        self.reported_step = self.checkpoints.newest
        self.reported_errors: set[str] = set()
        self.warned_of_slow_calls = False

    def close(self) -> None:
        """Closes all files; ignores WriteFailed, because the error that ended the run has been reported."""
        self.evaluations.close()
        with contextlib.suppress(WriteFailed):
            self.checkpoints.close()
        self.log.close()

    def run(
        self, compiled: Any, state: TrainState, total: counters.Counter, compile_s: float, num_devices: int
    ) -> Outcome:
        config, log = self.config, self.log
        words = (_by_member(word) for word in (state.env_steps.high, state.env_steps.low))
        log.env_steps_of = [(int(high) << 32) | int(low) for high, low in zip(*words, strict=True)]
        steps_before = sum(log.env_steps_of)
        started = time.perf_counter()
        with StopRequest(self.last_good) as stop:
            with ProgressLine(config.env, num_devices, config.total_env_steps, log.env_steps) as line:
                reason = self.evaluations.begin(stop)
                self.ended_by = self.ended_by or reason
                while log.env_steps < config.total_env_steps and not self._stop_requested(stop):
                    steps_before_call = log.env_steps
                    state = self._advance(compiled, state, total, started, line)
                    reason = self.evaluations.after_call(state, steps_before_call, stop)
                    self.ended_by = self.ended_by or reason
                    self._write(self.checkpoints.poll)
                    self._report_checkpoint()
                    if self.checkpoints.due(log.update):
                        self._save(state)
            within_budget = log.env_steps < config.total_env_steps
            ended_by = (self.ended_by if within_budget else None) or "budget"
            stopped = stop.signal_number is not None and within_budget
            if not stopped:
                self.evaluations.submit_last(state)
            self._save_last(state)
            self._report_checkpoint()
            train_s = time.perf_counter() - started
            if not stopped and config.eval.every_env_steps:
                with waiting("finishing the evaluations"):
                    self.evaluations.finish(stop)
        return Outcome(
            env_steps=log.env_steps,
            new_env_steps=sum(log.env_steps_of) - steps_before,
            updates=log.update,
            expected_return=log.expected_return,
            train_s=train_s,
            compile_s=compile_s,
            exit_code=stop.exit_code if stopped else 0,
            ended_by="signal" if stopped else ended_by,
        )

    def _advance(
        self, compiled: Any, state: TrainState, total: counters.Counter, started: float, line: ProgressLine
    ) -> TrainState:
        """One device call, which is logged and shown; returns the state after it."""
        call_started = time.perf_counter()
        state, metrics = compiled(state, total)
        rows = self.log.rows(with_nan(jax.device_get(metrics)), started, call_started)
        self._warn_of_slow_calls(time.perf_counter() - call_started)
        self._write(partial(self.log.write, rows))
        newest = next(own[-1] for own in rows if own)
        speed = len(rows) * newest["env_steps_per_s"]
        returns, extent = (self.log.expected_return, self.evaluations.newest_return), newest.get("randomization_extent")
        line.update(self.log.env_steps, speed, *returns, extent)
        self._check_health(rows)
        if distributed.is_first() and rows[0] and self.callbacks.metrics(rows[0]) is True:
            self.ended_by = "callback"
        return state

    def _on_evaluation(self, row: Row) -> None:
        if self.callbacks.evaluation(row) is True:
            self.ended_by = "callback"

    def _stop_requested(self, stop: StopRequest) -> bool:
        """Whether a signal or a callback on any process has requested a stop; all stop at the same update."""
        signal_number, enough = distributed.max_over_processes(stop.signal_number or 0, self.ended_by is not None)
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
            self.log.sync()
            self.checkpoints.save(self.log.update, state, self.log.expected_return)
            self.reported_errors.clear()

        self._write(self.checkpoints.finish)
        self._report_checkpoint()
        self._write(save)

    def _save_last(self, state: TrainState) -> None:
        """Saves the last state, unless the newest checkpoint holds it."""
        self._write(self.checkpoints.finish)
        self._report_checkpoint()
        if self.log.update == self.checkpoints.newest:
            return
        try:
            self.log.sync()
            self.checkpoints.save(self.log.update, state, self.log.expected_return)
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

    def _check_health(self, rows_of_members: list[list[Row]]) -> None:
        """Raises TrainingFailed when too many steps of a device call were lost to non-finite numbers."""
        problem = health.problem_of(rows_of_members, self.config.ppo)
        if problem is not None:
            first = problem.update, problem.member
            raise TrainingFailed(f"{problem.message}; {self.last_good_at_the_end()}", nonfinite=first)
