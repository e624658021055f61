"""A training program that is timed round by round, some updates each."""

from __future__ import annotations

import dataclasses
import time

import jax

from mjxppo.config.schema import Config
from mjxppo.ppo.program import TrainingProgram

UPDATES = 4
"""Of a round: one call of the device program."""
_ENDLESS = 10**12


def endless(config: Config) -> Config:
    """The configuration with rounds of ``UPDATES`` updates and a budget that no benchmark uses up."""
    log = dataclasses.replace(config.log, every_updates=UPDATES)
    return dataclasses.replace(config, log=log, total_env_steps=_ENDLESS)


class Rounds:
    """The compiled program of a trainer with an ``endless`` configuration, and its training state."""

    def __init__(self, trainer: TrainingProgram):
        self.trainer = trainer
        self.state, self._total = trainer.init(), trainer.budget(_ENDLESS)
        started = time.perf_counter()
        self._program = trainer.lower(self._total).compile()
        self.compile_s = time.perf_counter() - started

    def seconds(self) -> float:
        """Trains for one round; returns how long it took."""
        started = time.perf_counter()
        self.state, metrics = self._program(self.state, self._total)
        jax.block_until_ready(metrics)
        return time.perf_counter() - started
