"""The target critic of SHAC: a moving average of the critic, which stands for the rewards after the horizon."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from mjxppo.ppo.networks import Params
from mjxppo.ppo.state import Learner


def target_of(params: Params) -> Params:
    """A target critic that equals the critic among the parameters; a copy, as the training state is donated."""
    critic: Params = jax.tree.map(jnp.copy, params["params"]["critic"])
    return critic


def with_target_critic(learner: Learner) -> Learner:
    """The learner whose parameters hold the target critic in the critic's place; unchanged where it has none."""
    if learner.target_critic is None:
        return learner
    return replace(learner, params={"params": learner.params["params"] | {"critic": learner.target_critic}})


def follow_critic(learner: Learner, decay: float) -> Learner:
    """The learner whose target critic has moved towards the critic; ``decay`` of it stays."""
    critic = learner.params["params"]["critic"]
    moved = jax.tree.map(lambda target, now: decay * target + (1 - decay) * now, learner.target_critic, critic)
    return replace(learner, target_critic=moved)
