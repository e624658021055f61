"""Whole episodes of a population: each candidate acts in its own worlds, all from the start of an episode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.es import EsConfig
from mjxppo.config.schema import PpoConfig
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.batch import is_sound, select
from mjxppo.ppo import packing
from mjxppo.ppo.es import perturbation
from mjxppo.ppo.networks import ActorCritic, Params
from mjxppo.ppo.normalize import RunningMoments, bound, network_obs, standardize
from mjxppo.ppo.rollout import RolloutStats, where_any

Array = jax.Array


class Population(NamedTuple):
    """The candidates of one update."""

    network: ActorCritic
    params: Params
    """Those that the candidates' are perturbations of."""
    obs_moments: RunningMoments
    key: Array
    """The key that perturbations are drawn from, []."""


class Collected(NamedTuple):
    """What N worlds have given in an update; each array is [N]."""

    discounted_return: Array
    broken_at: Array
    """The first step after which the world had become non-finite, int32; ``ppo.rollout_length`` where none."""
    cut: Array
    """Whether the step budget has ended the episode, bool."""


class StepSums(NamedTuple):
    """Sums over worlds at each step of an update, [T]."""

    valid: Array
    """Number of worlds that took a step which counts."""
    reward: Array
    terminated: Array


class _Progress(NamedTuple):
    """B worlds under way, and sums over their steps so far, arrays [B, ...]."""

    state: EnvState
    collected: Collected
    obs_sum: Array
    obs_sum_of_squares: Array
    steps: Array
    nonfinite: Array
    outliers: Array


def pairs_of(es: EsConfig, worlds: Array) -> Array:
    """The numbers of the pairs whose candidates act in the worlds with these global indices, int32."""
    return worlds // (2 * es.worlds_per_candidate)


def starts_of(es: EsConfig, worlds: Array) -> Array:
    """Numbers of the worlds' random starts: the worlds of a pair's candidates begin alike, in their order, int32."""
    per_candidate = es.worlds_per_candidate
    return pairs_of(es, worlds) * per_candidate + worlds % per_candidate


def begin(env: Environment, state: EnvState) -> EnvState:
    """The worlds, each at the start of an episode: those whose last one was cut short begin another."""
    cut = ~state.done & (state.episode_length > 0)
    # A positive offset tells the task that the episode's return is not that of a whole one.
    offset = jnp.where(cut, 1, state.clock_offset)
    ended = replace(state, terminated=jnp.zeros_like(cut), truncated=cut, clock_offset=offset)
    return replace(env.reset_done(ended), terminated=state.terminated, truncated=state.truncated | cut)


def choose_actions(
    population: Population,
    es: EsConfig,
    noise: list[perturbation.Noise],
    obs: Array,
    mask: Array | None,
    normalized: bool,
) -> Array:
    """The candidates' actions for observations [B, obs_size] in their worlds, [B, action_size]; without noise.

    ``noise`` is that of the worlds' pairs, in their order; ``normalized`` is ``ppo.normalize_obs``.
    """
    network = population.network
    seen = network_obs(population.obs_moments, obs, normalized)
    layers = perturbation.acting_layers(network, population.params)
    outputs = perturbation.candidate_outputs(network, layers, noise, es.sigma, seen)
    return network.head.action(network.head.mode(network.head.masked(outputs, mask)))


def run_episodes(
    env: Environment,
    population: Population,
    state: EnvState,
    indices: Array,
    budget: Array,
    config: PpoConfig,
    es: EsConfig,
) -> tuple[EnvState, Collected, StepSums, RolloutStats]:
    """Acts for one episode, or the ``config.rollout_length`` = T steps of it, in B worlds that are simulated together.

    ``indices`` [B] are the worlds' global indices; a pair's worlds are among them together. Step t of world i is taken
    if ``t * num_envs + i < budget``. A world whose episode has ended waits for the others, at the start of another.
    Returns the worlds, what they gave, and sums.
    """
    pairs = pairs_of(es, indices[:: 2 * es.worlds_per_candidate])
    layers = perturbation.acting_layers(population.network, population.params)
    noise = perturbation.draw_noise(layers, es.rank, population.key, pairs)
    state = env.prepare(begin(env, state))

    def step(now: _Progress, t: Array) -> tuple[_Progress, StepSums]:
        before, collected = now.state, now.collected
        active = _goes_on(before, t) & (t * config.num_envs + indices < budget)
        action = choose_actions(population, es, noise, before.obs, env.action_mask(before), config.normalize_obs)
        stepped = env.step_active(before, action, active)
        valid = active & ~stepped.nonfinite & is_sound(before.obs).all(-1)
        broke = active & ~valid & (collected.broken_at == config.rollout_length)
        reward = jnp.where(valid, stepped.reward, 0)
        deviation = jnp.where(valid[:, None], standardize(population.obs_moments, before.obs), 0)
        bounded = bound(population.obs_moments, deviation)
        if env.branches:
            after = lax.cond(active.all(), lambda: stepped, lambda: select(active, stepped, before))
        else:
            after = select(active, stepped, before)
        following = _Progress(
            state=after,
            collected=Collected(
                collected.discounted_return + jnp.power(config.gamma, t.astype(reward.dtype)) * reward,
                jnp.where(broke, t, collected.broken_at),
                collected.cut | (_goes_on(before, t) & ~active),
            ),
            obs_sum=now.obs_sum + bounded,
            obs_sum_of_squares=now.obs_sum_of_squares + jnp.square(bounded),
            steps=now.steps + active,
            nonfinite=now.nonfinite + (active & ~valid),
            outliers=now.outliers + (bounded != deviation).any(-1),
        )
        return following, StepSums(valid, reward, valid & stepped.terminated)

    start, times = _at_start(state, config.rollout_length), jnp.arange(config.rollout_length)
    if env.branches:  # the last episode may end long before the time limit
        end, steps = lax.scan(where_any(lambda now, t: _goes_on(now.state, t), step), start, times)
    else:
        end, steps = packing.scan(step, start, times, lead=1)
    sums = StepSums(*(x.astype(end.obs_sum.dtype).sum(-1) for x in steps))
    counts = (x.sum(0) for x in (end.obs_sum, end.obs_sum_of_squares, end.steps, end.nonfinite, end.outliers))
    return end.state, end.collected, sums, RolloutStats(*counts)


def _goes_on(state: EnvState, t: Array) -> Array:
    """Whether the worlds' episodes of this update go on at its step t, [B] bool."""
    return (t == 0) | ~state.done


def _at_start(state: EnvState, length: int) -> _Progress:
    zero, none = jnp.zeros_like(state.reward), jnp.zeros_like(state.episode_length)
    nothing: Any = jnp.zeros_like(state.obs)
    collected = Collected(zero, jnp.full_like(none, length), jnp.zeros_like(state.terminated))
    return _Progress(state, collected, nothing, nothing, none, none, none)
