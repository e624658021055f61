"""The device program of SHAC: the rollout is differentiated, and values are those of the target critic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo.gradient import Algorithm
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.rollout import BehaviorPolicy
from mjxppo.ppo.shac.critic import with_target_critic
from mjxppo.ppo.shac.rollout import differentiated_rollout
from mjxppo.ppo.state import Learner


class ShacProgram(TrainingProgram):
    """``TrainingProgram`` whose updates are those of SHAC; state, placement and chunks are the same."""

    def rollout_function(self, learner: Learner, config: PpoConfig) -> Callable[..., Any]:
        return partial(differentiated_rollout, config=config, return_moments=learner.return_moments)

    def policy(self, learner: Learner) -> BehaviorPolicy:
        return super().policy(with_target_critic(learner))

    def algorithm(self, config: PpoConfig) -> Algorithm:
        return super().algorithm(config)._replace(shac=self.config.shac)
