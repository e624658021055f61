"""Returns of whole episodes, as REINFORCE has them (Williams 1992, https://doi.org/10.1007/BF00992696)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from mjxppo.config.schema import ReinforceConfig
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.gae import generalized_advantages
from mjxppo.ppo.rollout import Batch

Array = jax.Array


def only_whole_episodes(batch: Batch, cut: Array, devices: Devices) -> tuple[Batch, Array]:
    """The batch in which only the steps of whole episodes are valid, and the number of unfinished ones, [] int32.

    Each world has at most one episode in the batch, arrays [blocks, T, B, ...]: this device's. An episode is whole if
    it began with the batch's first step and ended within the batch, in a world that did not break. The returns of
    others are unknown. ``cut`` [] bool says that the step budget may have ended the rollout; if it left an episode
    unfinished, no step is valid, because those that had ended are the short ones.
    """
    begun = (batch.episode.age[:, 0] == 1) & batch.episode.whole[:, 0] & batch.valid[:, 0]
    whole = begun & (batch.terminated | batch.truncated).any(1)
    unfinished = devices.sum((batch.valid.any(1) & ~whole).sum())
    counts = whole & ~(cut & (unfinished > 0))
    return replace(batch, valid=batch.valid & counts[:, None]), unfinished


def episode_returns(config: ReinforceConfig, batch: Batch, gamma: float | Array) -> tuple[Array, Array]:
    """What weights each action, and the discounted rewards from its step on, each [blocks, T, B].

    ``batch`` has whole episodes only, one in each world; where it is not valid, both are 0. Nothing is estimated: no
    value stands for rewards after the time limit.
    """
    zero = jnp.zeros_like(batch.reward)
    # Without values, and with lambda = 1, the advantages are the discounted sums of rewards.
    sums = jax.vmap(partial(generalized_advantages, gamma=gamma, gae_lambda=1.0))
    value = jnp.concatenate([zero, zero[:, :1]], axis=1)
    to_go = sums(batch.reward, value, batch.terminated, batch.truncated, zero, batch.valid)
    if config.returns == "to_go":
        return to_go, to_go
    return jnp.where(batch.valid, to_go[:, :1], 0), to_go
