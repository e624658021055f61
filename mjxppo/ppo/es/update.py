"""The step of evolution strategies: from the returns of a population to new parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.config.es import EsConfig
from mjxppo.config.schema import InitConfig, PpoConfig
from mjxppo.ppo import schedules
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.es.episodes import Collected
from mjxppo.ppo.es.fitness import pair_weights
from mjxppo.ppo.es.perturbation import Layer, acting_layers, draw_noise, with_acting_layers
from mjxppo.ppo.gradient import adam_step
from mjxppo.ppo.networks import ActorCritic
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import Learner
from mjxppo.ppo.unknown import where_known

Array = jax.Array


class Evolution(NamedTuple):
    """Networks, settings and devices, which are the same in all updates."""

    network: ActorCritic
    ppo: PpoConfig
    es: EsConfig
    init: InitConfig
    devices: Devices
    pairs_at_a_time: int
    """Pairs whose perturbations are drawn together."""


class Candidates(NamedTuple):
    """The candidates of all devices, arrays [candidates]."""

    fitness: Array
    """Mean discounted return over a candidate's worlds."""
    whole: Array
    """Whether it is known: none of its worlds had become non-finite, bool."""
    cut: Array
    """Whether the step budget has ended an episode of it, bool."""


def candidates_of(evolution: Evolution, collected: Collected) -> Candidates:
    """The candidates of all devices, from what this device's worlds have given, arrays [worlds]."""
    of_candidate = lambda x: x.reshape(-1, evolution.es.worlds_per_candidate)  # noqa: E731
    own = Candidates(
        fitness=of_candidate(collected.discounted_return).mean(1),
        whole=(of_candidate(collected.broken_at) == evolution.ppo.rollout_length).all(1),
        cut=of_candidate(collected.cut).any(1),
    )
    return Candidates(*(evolution.devices.gather(x) for x in own))


def evolve(
    evolution: Evolution, learner: Learner, candidates: Candidates, key: Array, progress: Progress
) -> tuple[Learner, dict[str, Array]]:
    """One step from the returns of a population whose perturbations were drawn from ``key``.

    None is taken where the step budget has cut an episode short: the episodes that had ended are the short ones.
    Returns the learner after the step (observation moments unchanged), and metrics, each [].
    """
    config, es = evolution.ppo, evolution.es
    whole = candidates.whole & ~candidates.cut.any()
    known = whole.reshape(-1, 2).all(-1)
    wanted = known.any()
    weights = pair_weights(es, candidates.fitness, whole)
    gradient = with_acting_layers(
        evolution.network, jax.tree.map(jnp.zeros_like, learner.params), _ascent(evolution, learner, weights, key)
    )
    flat, unravel = ravel_pytree(learner.params)
    rate = schedules.learning_rate(config, learner.learning_rate, progress.budget_used)
    step_size = rate
    if evolution.init.step_size_warmup:
        step_size = step_size * schedules.warmup_factor(evolution.init, progress)
    unbounded = jnp.float32(-jnp.inf), jnp.float32(jnp.inf)
    downhill = -ravel_pytree(gradient)[0]
    carry, norm, finite = adam_step(config, (flat, learner.opt_state), downhill, step_size, unbounded, None, wanted)
    taken = wanted & finite
    shrunk = carry[0] - step_size * es.weight_decay * _acting(evolution, learner)
    params = unravel(jnp.where(taken, shrunk, carry[0]) if es.weight_decay else carry[0])
    best = jnp.where(whole, candidates.fitness, -jnp.inf).max()
    metrics = {
        "grad_norm": where_known(taken, norm),
        "gradient_steps": wanted.astype(jnp.int32),
        "skipped_gradient_steps": (wanted & ~finite).astype(jnp.int32),
        "learning_rate": where_known(wanted, step_size),
        "best_candidate": where_known(whole.any(), best),
        "dropped_candidates": 2 * (~known).sum(),
        "parameter_norm": jnp.linalg.norm(_acting(evolution, replace(learner, params=params))),
    }
    opt_state = carry[1]
    return replace(learner, params=params, opt_state=opt_state, learning_rate=rate), metrics


def _ascent(evolution: Evolution, learner: Learner, weights: Array, key: Array) -> list[Layer]:
    """The sum over all pairs of their perturbations, drawn again, with the ``weights`` [pairs]; same on all devices."""
    layers = acting_layers(evolution.network, learner.params)
    devices, at_a_time = evolution.devices, evolution.pairs_at_a_time
    local = weights.shape[0] // devices.count
    first = devices.index() * local

    def of_portion(portion: tuple[Array, Array]) -> list[Layer]:
        pairs, weight = portion
        noise = draw_noise(layers, evolution.es.rank, key, pairs)
        return [own.weighted_sum(weight) for own in noise]

    own = first + jnp.arange(local), lax.dynamic_slice_in_dim(weights, first, local)
    portions = jax.tree.map(lambda x: x.reshape(-1, at_a_time), own)
    sums = jax.tree.map(partial(jnp.sum, axis=0), lax.map(of_portion, portions))
    return devices.sum(sums)


def _acting(evolution: Evolution, learner: Learner) -> Array:
    """The flat parameters, [P], with 0 in place of those that no action depends on."""
    zeros = jax.tree.map(jnp.zeros_like, learner.params)
    layers = acting_layers(evolution.network, learner.params)
    return ravel_pytree(with_acting_layers(evolution.network, zeros, layers))[0]
