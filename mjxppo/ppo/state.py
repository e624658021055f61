"""Everything that training carries from one update to the next, as one pytree."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mjxppo.envs import EnvState
from mjxppo.ppo.counters import Counter
from mjxppo.ppo.networks import Params
from mjxppo.ppo.normalize import RunningMoments

Array = jax.Array


@flax.struct.dataclass
class ReferencePolicy:
    """A policy that the learned one is compared with, and that does not learn itself; see ``reference.py``."""

    params: Params
    """The actor's; the critic's are left out."""
    obs_moments: RunningMoments
    """Moments that its observations are normalised with."""


@flax.struct.dataclass
class Teacher:
    """The reference policy that a student imitates."""

    policy: ReferencePolicy
    share: Array
    """Share of the steps at which it acts in the student's place, []."""


@flax.struct.dataclass
class Learner:
    """The part of the training state that is the same on every device."""

    params: Params
    opt_state: Any
    """Adam's state over the flattened parameters."""
    obs_moments: RunningMoments
    return_moments: RunningMoments
    """Moments of the critic's targets; ``count`` counts updates."""
    learning_rate: Array
    """Step size of the last update, []."""
    kl_penalty: Array
    """Coefficient of the KL penalty, []."""
    critic_opt_state: Any = None
    """Adam's state of the critic's own steps, over the flattened parameters; None where it has none."""
    target_critic: Any = None
    """SHAC's moving average of the critic's parameters, in the same units; None for other algorithms."""
    anchor: ReferencePolicy | None = None
    """The reference policy of fine-tuning; the divergence from it has the weight ``init.anchor_coef``."""
    teacher: Teacher | None = None
    """The reference policy of distillation, which the learned one imitates."""
    actions: Array | None = None
    """What the policy's outputs stand for, which who reads a checkpoint has to know: the text of
    ``ActionSpec.to_json``, [any] uint8. None where actions are a vector of numbers."""


@flax.struct.dataclass
class TrainState:
    """A whole training run between two updates; saving this and nothing else is enough to go on exactly."""

    learner: Learner
    env_state: EnvState
    """All worlds; on several devices these are the only arrays that are split among them."""
    key: Array
    """The run's random key; update k draws from ``fold_in(key, k)``, [] typed key."""
    update: Array
    """Updates done, [] int32."""
    env_steps: Counter
    """Environment steps taken."""

    def metrics(self) -> dict[str, Array]:
        """How far training has come, as every update logs it, each []."""
        return {
            "ran": jnp.array(True),
            "update": self.update,
            "env_steps_high": self.env_steps.high,
            "env_steps_low": self.env_steps.low,
        }
