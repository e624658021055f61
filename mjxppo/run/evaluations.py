"""A run's evaluations while it trains, as its loop sees them: when one is due, and whether they end the run."""

from __future__ import annotations

from collections.abc import Callable

from mjxppo import envs
from mjxppo.config.schema import Config
from mjxppo.files import WriteFailed
from mjxppo.ppo.state import TrainState
from mjxppo.run import distributed
from mjxppo.run.evaluator import Evaluator
from mjxppo.run.log import RunLog
from mjxppo.run.metrics import Row
from mjxppo.run.signals import StopRequest
from mjxppo.run.stopping import EndedBy, is_due


class Evaluations:
    """The evaluations of a run; each process has them, and calls each method at the same moment, and the first makes
    them. Without ``eval.every_env_steps`` no method does anything.
    """

    def __init__(
        self,
        config: Config,
        env: envs.Environment,
        log: RunLog,
        on_row: Callable[[Row], object],
        write: Callable[[Callable[[], None]], None],
    ):
        """Goes on where the run stands whose files are open in ``log``.

        ``env`` is its task; ``on_row`` is called with each new row of the first policy; ``write`` calls a function that
        may raise WriteFailed.
        """
        self._every, self._log, self._write = config.eval.every_env_steps, log, write
        self._evaluator: Evaluator | None = None
        if self._every and distributed.is_first():
            self._evaluator = Evaluator(config, env, log, on_row)

    @property
    def newest_return(self) -> float | None:
        """Mean return of the first policy's newest evaluation; None where it is not known."""
        return None if self._evaluator is None else self._evaluator.newest_return

    def begin(self, stop: StopRequest) -> EndedBy | None:
        """What ends a resumed run at once: it stands at an evaluation, and those before it had ended it there."""
        return self._decide(stop) if self._every and self._is_made() else None

    def after_call(self, state: TrainState, steps_before: int, stop: StopRequest) -> EndedBy | None:
        """Evaluates ``state`` if that is due after a device call that began at ``steps_before``, and writes what is
        finished; returns what ends the run.

        Where an evaluation is due, those before have to be finished, and only they may end the run: so neither its end
        nor the policies that it evaluates depend on how long an evaluation takes.
        """
        if not self._every:
            return None
        if not is_due(self._every, steps_before, self._log.env_steps):
            self._call(Evaluator.collect)
            return None
        self._call(lambda evaluator: evaluator.submit(state.learner))
        return self._decide(stop)

    def submit_last(self, state: TrainState) -> None:
        """Starts evaluating the state in which training ends, unless that has been done."""
        if self._every and not self._is_made():
            self._call(lambda evaluator: evaluator.submit(state.learner))

    def finish(self, stop: StopRequest) -> None:
        """Waits for all evaluations and films, or for a signal, and writes what is finished."""
        if self._every:
            self._call(lambda evaluator: evaluator.finish(lambda: stop.signal_number is not None))

    def close(self) -> None:
        """Ends the threads."""
        if self._evaluator is not None:
            self._evaluator.close()

    def _is_made(self) -> bool:
        made = self._evaluator is not None and self._evaluator.is_made(self._log.update)
        return distributed.on_any_process(made)

    def _decide(self, stop: StopRequest) -> EndedBy | None:
        """What ends the run, by the evaluations before the last update, for which it waits."""
        update, own = self._log.update, self._evaluator
        finished = own is not None and own.wait(update, lambda: stop.signal_number is not None)
        self._call(Evaluator.collect)
        return own.ended_by(update) if own is not None and finished else None

    def _call(self, action: Callable[[Evaluator], None]) -> None:
        """Calls ``action``, which may not be able to write, on the first process, and lets it fail on all."""

        def act() -> None:
            with distributed.failing_together(WriteFailed):
                if self._evaluator is not None:
                    action(self._evaluator)

        self._write(act)
