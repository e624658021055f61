"""What the returns of a population are worth: centred ranks, and the weight of each pair's perturbation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.config.es import EsConfig

Array = jax.Array


def centered_ranks(x: Array, counts: Array) -> Array:
    """Ranks of the numbers ``x`` [n] among those that count ([n] bool), scaled to [-0.5, 0.5]; 0 where one does not.

    Equal numbers share the mean of their ranks, so that where all are equal all are 0.
    """
    ordered = jnp.sort(jnp.where(counts, x, jnp.inf))
    below, up_to = (jnp.searchsorted(ordered, x, side=side) for side in ("left", "right"))
    rank = (below + up_to - 1) / 2
    return jnp.where(counts, rank / jnp.maximum(counts.sum() - 1, 1) - 0.5, 0).astype(x.dtype)


def pair_weights(config: EsConfig, fitness: Array, whole: Array) -> Array:
    """The weight of each pair's perturbation in the gradient, [pairs].

    ``fitness`` [2 * pairs] are the candidates' returns, and ``whole`` [2 * pairs] says which are known; of a pair both
    have to be. With the difference of a pair's returns, or of what stands for them, and the number n of pairs the
    weight is ``difference / (2 * sigma * n)``: the sum of the weighted perturbations estimates the gradient of the mean
    over perturbations (Salimans et al. 2017, https://arxiv.org/abs/1703.03864, section 2).
    """
    known = whole.reshape(-1, 2).all(-1)
    counts = jnp.repeat(known, 2)
    value = centered_ranks(fitness, counts) if config.shaping == "centered_ranks" else jnp.where(counts, fitness, 0)
    first, second = value.reshape(-1, 2).T
    return (first - second) / (2 * config.sigma * jnp.maximum(known.sum(), 1))
