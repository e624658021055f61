"""Collecting experience: the policy acts in one block of worlds for T steps, as one scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.schema import PpoConfig
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.batch import select
from mjxppo.ppo import distribution, normalize
from mjxppo.ppo.networks import ActorCritic, Params, apply_policy, apply_value
from mjxppo.ppo.normalize import RunningMoments

Array = jax.Array


@flax.struct.dataclass
class Batch:
    """What B worlds went through in T steps; every array leads with [T, B]."""

    obs: Array
    """Observations acted on, as the networks see them, [T, B, obs_size]."""
    u: Array
    """Actions before squashing, [T, B, action_size]."""
    log_prob: Array
    """Gaussian log-density of ``u`` when it was drawn."""
    reward: Array
    terminated: Array
    truncated: Array
    final_value: Array
    """Value of the true last observation where ``truncated``, in the critic's (normalised) units."""
    valid: Array
    """False where the world had gone non-finite, or the step budget was spent and no step was taken."""
    reference: tuple[Array, Array] | None = None
    """What a reference policy would have done: its mean and log-std before squashing, each [T, B, action_size]."""


@flax.struct.dataclass
class RolloutStats:
    """Sums over a rollout, to be added up over blocks and devices."""

    obs_sum: Array
    """Sum of standardised observations, [obs_size]."""
    obs_sum_of_squares: Array
    steps: Array
    """Environment steps taken, [] int32."""
    nonfinite: Array
    """Steps that left a world non-finite, [] int32."""
    episodes: Array
    """Whole episodes finished, [] int32."""
    return_sum: Array
    return_sum_of_squares: Array
    length_sum: Array


Reference = Callable[[EnvState], tuple[Array, Array]]
"""A policy that the learned one is compared with: mean and log-std before squashing, each [B, action_size], in worlds
that have not acted yet. It may look at more than their observations."""


class Policy(NamedTuple):
    """All that acting needs."""

    network: ActorCritic
    params: Params
    obs_moments: RunningMoments
    teacher_share: Array | None = None
    """Share of the steps at which another one acts in its place, []; None: it acts alone."""


def see_obs(policy: Policy, config: PpoConfig, obs: Array) -> Array:
    """Observations as the networks see them, [..., obs_size]."""
    seen = normalize.normalize_obs(policy.obs_moments, obs) if config.normalize_obs else obs
    # A world handed in with a non-finite observation must not spoil sums over the batch.
    return jnp.where(jnp.isfinite(seen), seen, 0)


def draw_action(
    policy: Policy, obs: Array, step_key: Array, indices: Array, teacher: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Samples the policy in B worlds, or in some of them the teacher, as ``policy.teacher_share`` has it.

    Args:
        policy: who acts.
        obs: observations as the networks see them, [B, obs_size].
        step_key: this time step's random key.
        indices: the worlds' global indices, [B].
        teacher: its mean and log-std, each [B, action_size].

    Returns:
        Actions before squashing [B, action_size], and their Gaussian log-density under the policy, whoever acts, [B].
    """
    mean, log_std = apply_policy(policy.network, policy.params, obs)
    keys = jax.vmap(partial(jax.random.fold_in, step_key))(indices)
    noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(keys)
    acting = mean, log_std
    if (share := policy.teacher_share) is not None:
        assert teacher is not None
        taught = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1), share))(keys)
        acting = jax.tree.map(lambda theirs, ours: jnp.where(taught[:, None], theirs, ours), teacher, acting)
    u = acting[0] + jnp.exp(acting[1]) * noise
    return u, distribution.gaussian_log_prob(u, mean, log_std)


def rollout(
    env: Environment,
    policy: Policy,
    state: EnvState,
    indices: Array,
    key: Array,
    budget: Array,
    *,
    num_envs: int,
    config: PpoConfig,
    reference: Reference | None = None,
) -> tuple[EnvState, Batch, Array, RolloutStats]:
    """Acts T steps in one block of B worlds.

    Random numbers are drawn by time and global world index, so that they do not depend on how worlds are shared
    among blocks and devices.

    Args:
        env: the environment.
        policy: who acts.
        state: B worlds.
        indices: the worlds' global indices, [B].
        key: this update's random key.
        budget: environment steps that all worlds together may still take in this update, [] int32. Step t of
            world i is taken if ``t * num_envs + i < budget``; a world not stepped stays as it is.
        num_envs: number of worlds in all blocks on all devices.
        config: the algorithm's settings.
        reference: asked in every world before it acts; what it says is in the batch. With ``policy.teacher_share``
            it is the teacher.

    Returns:
        The worlds after T steps, the batch, the last observations as the networks see them [B, obs_size], and sums
        for the statistics.
    """
    see = partial(see_obs, policy, config)

    def act(state: EnvState, t: Array) -> tuple[EnvState, tuple[Batch, RolloutStats]]:
        step_key = jax.random.fold_in(key, t)
        obs = see(state.obs)
        compared = reference(state) if reference else None
        u, log_prob = draw_action(policy, obs, step_key, indices, compared)
        active = t * num_envs + indices < budget
        stepped = env.step_active(state, jnp.tanh(u), active)

        valid = active & ~stepped.nonfinite & jnp.isfinite(state.obs).all(-1) & jnp.isfinite(log_prob)
        truncated = stepped.truncated & valid
        final_value = lax.cond(
            truncated.any(),
            lambda: apply_value(policy.network, policy.params, see(stepped.final_obs)),
            lambda: jnp.zeros_like(stepped.reward),
        )
        batch = Batch(
            obs=obs,
            u=jnp.where(valid[:, None], u, 0),
            log_prob=jnp.where(valid, log_prob, 0),
            reward=stepped.reward,
            terminated=stepped.terminated & valid,
            truncated=truncated,
            final_value=jnp.where(truncated, final_value, 0),
            valid=valid,
            reference=compared,
        )
        standardized = jnp.where(valid[:, None], normalize.standardize(policy.obs_moments, state.obs), 0)
        stats = _step_stats(stepped, standardized, active, valid)
        state = lax.cond(active.all(), lambda: stepped, lambda: select(active, stepped, state))
        return state, (batch, stats)

    state, (batch, stats) = lax.scan(act, env.prepare(state), jnp.arange(config.rollout_length))
    return state, batch, see(state.obs), jax.tree.map(lambda x: x.sum(0), stats)


def _step_stats(stepped: EnvState, standardized: Array, active: Array, valid: Array) -> RolloutStats:
    # An episode that began with its clock ahead was cut short, and says nothing about the policy.
    whole = (stepped.terminated | stepped.truncated) & valid & (stepped.clock_offset == 0)
    episode_return = jnp.where(whole, stepped.episode_return, 0)
    return RolloutStats(
        obs_sum=standardized.sum(0),
        obs_sum_of_squares=jnp.square(standardized).sum(0),
        steps=active.sum(),
        nonfinite=(active & ~valid).sum(),
        episodes=whole.sum(),
        return_sum=episode_return.sum(),
        return_sum_of_squares=jnp.square(episode_return).sum(),
        length_sum=jnp.where(whole, stepped.episode_length, 0).sum(),
    )
