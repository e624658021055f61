"""Evaluations while a run trains, on a thread beside it: their rows, the best policy, and clips.

An evaluation is a function of the parameters at its step and of the seeds. Before a checkpoint goes past its step it is
on the disk (``pending``), so that a run which is killed makes it when it is resumed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from mjxppo import envs
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.console import human, say
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, attempt
from mjxppo.policy.evaluate import evaluate, make_gymnasium_env, summarize, worlds_of_training
from mjxppo.policy.on_device import DeviceEpisodes
from mjxppo.policy.policy import Policy, from_checkpoint
from mjxppo.render import film
from mjxppo.render.video import animation
from mjxppo.run import best, pending
from mjxppo.run.arrays import named_arrays
from mjxppo.run.conclude import engine_of
from mjxppo.run.directory import FILMS
from mjxppo.run.log import RunLog
from mjxppo.run.metrics import RETURN, Row, read_evaluations
from mjxppo.run.model_files import as_trained
from mjxppo.run.pending import Job
from mjxppo.run.stopping import EndedBy, setting_that_ends

_NICENESS = 10
"""Of the threads: they take what training leaves, and on a machine that others use as well they still come to an end.
"""
_CLIP_S, _CLIP_SIZE = 4.0, {"width": 320, "height": 240}
_UNDER_WAY = 3
"""Evaluations and films that may be under way while training goes on."""
_LOOK_S = 0.1
"""Seconds between two looks at whether to go on waiting."""

Clip = tuple[bytes, int, int]


class _Abandoned(Exception):
    """An evaluation is given up, because the run ends; it is made when the run is resumed."""


@dataclass(frozen=True)
class _Abandonable(Policy):
    """A policy that raises _Abandoned at its next action, once that is wanted."""

    abandon: threading.Event = field(default_factory=threading.Event)

    def of_inputs(self, obs: np.ndarray, mask: Any = None) -> np.ndarray:
        if self.abandon.is_set():
            raise _Abandoned
        return super().of_inputs(obs, mask)


@dataclass
class _Work:
    """A job, and what is not finished of it."""

    job: Job
    is_new: bool
    """Whether its row has not been written yet."""
    evaluation: Future[Row] | None
    film: Future[Clip | None] | None


def check(config: Config, env: envs.Environment) -> None:
    """Raises UserError where a run cannot be evaluated or filmed while it trains; ``env`` is its task."""
    own = config.eval
    if not own.every_env_steps:
        return
    can_be_filmed = False
    if gym_id_of(config.env) is not None:
        host = make_gymnasium_env(config)
        can_be_filmed = isinstance(getattr(host.unwrapped, "model", None), mujoco.MjModel)
        host.close()
    if engine_of(config) != "gymnasium":
        DeviceEpisodes(env, own.episodes_while_training, own.seed)
    if own.video_every and not can_be_filmed:
        raise UserError(f"eval.video_every: only MuJoCo tasks of Gymnasium's can be filmed, not {config.env}")


class Evaluator:
    """A run's evaluations while it trains; of several processes only the first has one."""

    def __init__(self, config: Config, env: envs.Environment, log: RunLog, on_row: Callable[[Row], object]):
        """Goes on where the run stands whose files are open in ``log``.

        ``env`` is its task; ``on_row`` is called with each new row of the first policy, when it is collected.
        """
        self._on_row = on_row
        self._config, self._log, self._members = config, log, members_of(config)
        self._rows = [read_evaluations(directory) for directory in log.directories]
        self._work: list[_Work] = []
        self._settled: list[Job] = []
        self._unsaved: dict[int, tuple[Job, Row]] = {}
        self._problems: list[WriteFailed] = []
        self._best = [_best_return(directory) for directory in log.directories]
        self._abandon = threading.Event()
        self._thread = ThreadPoolExecutor(1, "evaluation", _let_training_go_first)
        self._film_thread = ThreadPoolExecutor(1, "film", _let_training_go_first)
        # A resumed run is evaluated on the model file that it was trained on.
        self._described = as_trained(
            config, log.directories[0].parent if trains_several(config) else log.directories[0]
        )
        self._episodes = _episodes_of(self._described, env)
        for job in pending.read(log.directories, log.update):
            self._start(job)

    @property
    def newest_return(self) -> float | None:
        """Mean return of the first policy's newest evaluation; None where it is not known."""
        value = self._rows[0][-1][RETURN] if self._rows[0] else None
        return None if value is None else float(value)

    def is_made(self, update: int) -> bool:
        """Whether the policies after ``update`` have been evaluated, or are being."""
        return update in self._updates_of(0)

    def _updates_of(self, policy: int) -> list[int]:
        under_way = [work.job.update for work in self._work if work.job.policy == policy and work.is_new]
        return [int(row["update"]) for row in self._rows[policy]] + under_way

    def submit(self, learner: Any) -> None:
        """Starts evaluating each policy as it is now; ``learner`` is the ``Learner`` of the training state.

        Raises WriteFailed where that could not be noted on the disk; the evaluations are made nevertheless.
        """
        update, every = self._log.update, self._config.eval.video_every
        arrays = named_arrays({"learner": learner})
        jobs = []
        for policy, env_steps in enumerate(self._log.env_steps_of):
            own = {name: x[policy] for name, x in arrays.items()} if trains_several(self._config) else arrays
            wanted = bool(every) and (len(self._updates_of(policy)) + 1) % every == 0
            jobs.append(Job(policy, update, env_steps, wanted, own))
        for job in jobs:
            self._start(job)
        attempt(partial(pending.write, self._log.directories[job.policy], job) for job in jobs)

    def _start(self, job: Job) -> None:
        known = next((row for row in self._rows[job.policy] if row["update"] == job.update), None)
        filmed = None
        if job.film and not self._film_path(job).exists():
            filmed = self._film_thread.submit(self._film, job)
        self._work.append(_Work(job, known is None, self._thread.submit(self._evaluate, job, known), filmed))

    def wait(self, before: int, interrupted: Callable[[], bool]) -> bool:
        """Waits where too much of updates below ``before`` is under way; where evaluations may end the run, for all.

        Returns whether it need not wait any more; False where ``interrupted`` returned True before.
        """
        own = self._config.eval
        may_end = own.stop_at_return is not None or own.patience > 0
        earlier = [work for work in self._work if work.job.update < before]
        evaluations = [work.evaluation for work in earlier if work.evaluation is not None]
        films = [work.film for work in earlier if work.film is not None]
        late = len(self._members) * _UNDER_WAY
        evaluations = evaluations if may_end else evaluations[: max(0, len(evaluations) - late)]
        return _wait({*evaluations, *films[: max(0, len(films) - late)]}, interrupted)

    def collect(self) -> None:
        """Writes what has been finished since the last call.

        Raises WriteFailed where a row or a best policy could not be written; that is tried again by the next call.
        """
        appends: list[Callable[[], None]] = []
        new: list[Row] = []
        for work in self._work:
            writer = self._log.writers[work.job.policy]
            if work.evaluation is not None and work.evaluation.done():
                row, work.evaluation = work.evaluation.result(), None
                if work.is_new:
                    self._rows[work.job.policy].append(row)
                    new += [row] if work.job.policy == 0 else []
                    appends.append(partial(writer.write_evaluation, row))
                    work.is_new = False
            if work.film is not None and work.film.done():
                clip, work.film = work.film.result(), None
                if clip is not None:
                    appends.append(partial(writer.write_film, work.job.env_steps, clip))
        self._settled += [work.job for work in self._work if work.evaluation is None and work.film is None]
        self._work = [work for work in self._work if work.evaluation is not None or work.film is not None]
        if self._settled:
            appends += [writer.sync for writer in self._log.writers]
        problems, self._problems = self._problems, []
        for row in new:
            self._on_row(row)
        attempt([*appends, *(partial(_raise, problem) for problem in problems)])
        self._settled = [job for job in self._settled if not self._forget(job)]

    def _forget(self, job: Job) -> bool:
        """Deletes the file of a job that is finished, unless its policy is the best and not saved; whether it did."""
        if any((job.policy, job.update) == (other.policy, other.update) for other, _ in list(self._unsaved.values())):
            return False
        pending.remove(self._log.directories[job.policy], job)
        return True

    def ended_by(self, before: int) -> EndedBy | None:
        """The setting that ends the run, by the evaluations of updates below ``before``; None where it goes on."""
        rows_of = [[row for row in rows if row["update"] < before] for rows in self._rows]
        return setting_that_ends(self._config.eval, rows_of)

    def finish(self, interrupted: Callable[[], bool]) -> None:
        """Waits for everything, and writes it as ``collect``; less where ``interrupted`` returns True."""
        _wait({part for work in self._work for part in (work.evaluation, work.film) if part is not None}, interrupted)
        if self._unsaved:
            self._thread.submit(self._save_best).result()
        self.collect()

    def close(self) -> None:
        """Ends the threads; what they have not finished is made when the run is resumed."""
        self._abandon.set()
        for thread in (self._thread, self._film_thread):
            thread.shutdown(wait=True, cancel_futures=True)

    # What follows runs on the threads.

    def _evaluate(self, job: Job, known: Row | None) -> Row:
        """The row of a job's evaluation; keeps the policy if it is the best so far."""
        row = known or {"update": job.update, "env_steps": job.env_steps} | self._numbers(job)
        if best.return_of(row) > self._best[job.policy]:
            self._best[job.policy] = best.return_of(row)
            self._unsaved[job.policy] = (job, row)
        self._save_best()
        return row

    def _save_best(self) -> None:
        for policy, (job, row) in list(self._unsaved.items()):
            try:
                best.keep_best(self._log.directories[policy], job.arrays, self._members[policy].config, row)
                del self._unsaved[policy]
            except WriteFailed as error:
                self._problems.append(error)

    def _numbers(self, job: Job) -> Row:
        """The statistics of an evaluation, each None where it failed."""
        try:
            result = self._episodes(self._policy(job))
        except _Abandoned:
            raise
        except Exception as error:  # of an environment, which may fail in any way; training goes on
            say(f"the evaluation at {human(job.env_steps)} steps failed: {type(error).__name__}: {error}")
            result = {}
        names = {RETURN: "mean", "eval/return_std": "std", "eval/return_min": "min", "eval/return_max": "max"}
        names |= {"eval/length_mean": "length_mean", "eval/episodes": "episodes"}
        return {name: result.get(own) for name, own in names.items()}

    def _policy(self, job: Job) -> Policy:
        policy = from_checkpoint(job.arrays, self._members[job.policy].config)
        return _Abandonable(**vars(policy), abandon=self._abandon)

    def _film_path(self, job: Job) -> Path:
        return self._log.directories[job.policy] / FILMS / f"{job.env_steps}.mp4"

    def _film(self, job: Job) -> Clip | None:
        """Films a clip; returns it as TensorBoard shows it, or None where that failed."""
        path, seed = self._film_path(job), self._config.eval.seed
        try:
            film(self._policy(job), self._described, path, _CLIP_S, seed=seed, **_CLIP_SIZE)
            return animation(path)
        except _Abandoned:
            raise
        except Exception as error:  # of a driver, which may fail in any way; training goes on
            say(f"no film at {human(job.env_steps)} steps: {error}")
            return None


def _wait(futures: set[Future[Any]], interrupted: Callable[[], bool]) -> bool:
    """Waits until all are done, or ``interrupted`` returns True; returns whether all are done."""
    while futures and not interrupted():
        futures = wait_for(futures, _LOOK_S).not_done
    return not futures


def _let_training_go_first() -> None:
    """Gives this thread a low priority, where threads have one."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _episodes_of(config: Config, env: envs.Environment) -> Callable[[Policy], dict[str, Any]]:
    """The function that evaluates a policy: in Gymnasium's C MuJoCo, else on the device."""
    number, seed = config.eval.episodes_while_training, config.eval.seed
    if engine_of(config) == "gymnasium":
        return lambda policy: evaluate(policy, config, "gymnasium", number, seed)
    as_trained = config.policy.privileged == "both"
    episodes = DeviceEpisodes(worlds_of_training(config, env) if as_trained else env, number, seed, as_trained)
    return lambda policy: summarize(episodes(policy), "own", config.env, seed)


def _best_return(directory: Path) -> float:
    """The return of the best policy that is kept; removes what a kill has left beside it."""
    found = best.read_best(directory)
    if found is not None:
        best.remove_others(found[0])
    return best.return_of(found[1]) if found else -np.inf


def _raise(error: Exception) -> None:
    raise error
