"""Timing of a training program in rounds of a few updates."""

from __future__ import annotations

import dataclasses
import time

import jax

from mjxppo.config.schema import Config
from mjxppo.ppo import counters
from mjxppo.ppo.program import TrainingProgram

UPDATES = 4
"""Updates in a round, which is one call of the device program."""
_BUDGET = 10**12
"""Environment steps, more than any benchmark takes."""


def with_rounds(config: Config) -> Config:
    """The configuration with ``UPDATES`` updates in a device call and a budget that no benchmark uses up."""
    log = dataclasses.replace(config.log, every_updates=UPDATES)
    return dataclasses.replace(config, log=log, total_env_steps=_BUDGET)


class TrainingRounds:
    """A compiled training program, whose configuration is from ``with_rounds``, and its training state."""

    def __init__(self, program: TrainingProgram):
        self.program = program
        self.state, self._total = program.init(), program.budget(_BUDGET)
        self.env_steps = 0
        """Environment steps of the last round; of es, fewer where episodes end early."""
        started = time.perf_counter()
        self._compiled = program.lower().compile()
        self.compile_s = time.perf_counter() - started

    def train_round(self) -> float:
        """Trains for one round; returns its seconds."""
        before = counters.to_int(self.state.env_steps)
        started = time.perf_counter()
        self.state, metrics = self._compiled(self.state, self._total)
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - started
        self.env_steps = counters.to_int(self.state.env_steps) - before
        return seconds
