"""Metrics of episodes, from the steps of one update."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.envs.task import NO_LIMIT
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.unknown import where_known

Array = jax.Array

AGE_GROUPS = 20
"""Number of age groups, of equal width; the age of a step is its number in its episode."""


@flax.struct.dataclass
class EpisodeSteps:
    """Steps in B worlds and the episodes that they belong to; every array leads with [T, B], or with [B]."""

    age: Array
    """Number of the step in its episode, from 1, int32."""
    whole: Array
    """The episode's clock began at 0 (``EnvState.clock_offset``): it was not cut short, bool."""
    episode_return: Array
    """Sum of the episode's rewards up to this step, and with it."""


def episode_metrics(
    steps: EpisodeSteps,
    reward: Array,
    terminated: Array,
    truncated: Array,
    valid: Array,
    max_episode_steps: int,
    devices: Devices,
) -> dict[str, Array]:
    """Numbers to log about the episodes of an update, each []; ``UNKNOWN`` where nothing is known.

    Arrays are [..., T, B]: this device's. ``episode_return`` and ``episode_length`` are means over the whole episodes
    that ended in the update; ``expected_return`` counts running ones as well, see ``expected_return``.
    """
    finished = ((terminated | truncated) & steps.whole & valid).astype(jnp.float32)
    episodes = devices.sum(finished.sum())

    def mean_of(x: Array) -> Array:
        return devices.sum((x * finished).sum()) / jnp.maximum(episodes, 1)

    mean = mean_of(steps.episode_return)
    weight = valid.astype(jnp.float32)
    counted = jnp.maximum(devices.sum(weight.sum()), 1)
    if max_episode_steps < NO_LIMIT:
        expected = expected_return(steps.age, reward, terminated, weight, max_episode_steps, devices)
    else:  # how long an episode would last is not known
        expected = where_known(episodes > 0, mean)
    of_finished = {
        "episode_return": mean,
        # Not from the sum of squares, in which float32 cancels.
        "episode_return_std": jnp.sqrt(mean_of(jnp.square(steps.episode_return - mean))),
        "episode_length": mean_of(steps.age),
    }
    return {name: where_known(episodes > 0, x) for name, x in of_finished.items()} | {
        "episodes": episodes.astype(jnp.int32),
        "reward_per_step": devices.sum((reward * weight).sum()) / counted,
        "expected_return": expected,
    }


def expected_return(
    age: Array, reward: Array, ends: Array, weight: Array, max_episode_steps: int, devices: Devices
) -> Array:
    """Expected return of an episode of the policy that acted, []; ``UNKNOWN`` where no step counts.

    The mean over episodes that end in an update is not the present policy's return: episodes that last, and the latest
    steps of all, are missing in it. This is the actuarial estimate (a life table): of each group of ages the mean
    reward and the rate of ends are taken from all steps, whether their episode ends or not, and an episode that passes
    through all groups collects those rewards as long as it survives. A group without steps is taken to be as the
    nearest younger one that has some, or else as the youngest.

    Args:
        age: numbers of the steps in their episodes, from 1, any shape.
        reward: their rewards.
        ends: whether the task, and not the time limit, ended the episode with the step, bool.
        weight: 1, or 0 for a step that does not count.
        max_episode_steps: the time limit.
        devices: over which the sums are added up.
    """
    width = -(-max_episode_steps // AGE_GROUPS)
    group = (age - 1) // width

    def sums_of(number: Array) -> Array:
        own = jnp.where(group == number, weight, 0)
        return jnp.stack([own.sum(), (own * reward).sum(), (own * ends).sum()])

    sums = devices.sum(jax.vmap(sums_of)(jnp.arange(AGE_GROUPS)))
    source = _nearest_known(sums[:, 0] > 0)
    steps, rewards, ended = sums[source].T
    counted = jnp.maximum(steps, 1)
    rate, mean_reward = ended / counted, rewards / counted
    longest = jnp.clip(max_episode_steps - width * jnp.arange(AGE_GROUPS), 0, width).astype(jnp.float32)
    # log1p and expm1 keep rates of 1e-7 precise; a rate of 1 leaves one step.
    log_survival = longest * jnp.log1p(-jnp.minimum(rate, 1 - 1e-6))
    expected_steps = jnp.where(rate > 0, -jnp.expm1(log_survival) / jnp.where(rate > 0, rate, 1), longest)
    begun = jnp.exp(jnp.cumsum(log_survival) - log_survival)
    return where_known(steps.any(), (begun * expected_steps * mean_reward).sum())


def _nearest_known(known: Array) -> Array:
    """For each group the index of the nearest known one that is not later, else of the first known one, [groups]."""
    index = jnp.arange(known.size)
    before = lax.cummax(jnp.where(known, index, -1))
    return jnp.where(before < 0, jnp.argmax(known), before)
