"""Everything that training carries from one update to the next, as one pytree."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax

from mjxppo.envs import EnvState
from mjxppo.ppo.counters import Counter
from mjxppo.ppo.networks import Params
from mjxppo.ppo.normalize import RunningMoments

Array = jax.Array


@flax.struct.dataclass
class Frozen:
    """A policy that does not learn any more."""

    params: Params
    """Of the actor; the critic's are left out."""
    obs_moments: RunningMoments


@flax.struct.dataclass
class Teacher:
    """The policy that a student imitates."""

    policy: Frozen
    share: Array
    """Share of the steps at which it acts in the student's place, []."""


@flax.struct.dataclass
class Learner:
    """The part that is the same on every device."""

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
    anchor: Frozen | None = None
    """The policy that ``init.anchor_coef`` holds the learned one near."""
    teacher: Teacher | None = None
    """The policy that ``distill`` imitates."""


@flax.struct.dataclass
class TrainState:
    """A whole training run at one moment; saving this and nothing else is enough to go on exactly."""

    learner: Learner
    env_state: EnvState
    """All worlds; on several devices these are the only arrays that are split among them."""
    key: Array
    """The run's random key; update k draws from ``fold_in(key, k)``, [] typed key."""
    update: Array
    """Updates done, [] int32."""
    env_steps: Counter
    """Environment steps taken."""
