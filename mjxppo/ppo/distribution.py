"""The distributions of actions: the tanh-squashed Gaussian, and the categorical.

A number in an action is ``tanh(u)`` with ``u ~ N(mean, std)``, each dimension independent. Its log-density is
``gaussian_log_prob(u, mean, log_std) - squash_log_det(u)``. The ratio of two policies' densities at one action does not
contain the second term, which depends on ``u`` alone; the loss therefore works with the first. ``u`` is kept wherever
the action's probability is needed later: recovering it as ``atanh(action)`` is ill-conditioned near +-1.

Sums over dimensions leave out those for which ``where`` ([A] bool; None: sum over all) is false.

A choice among n categories has the softmax of n logits as probabilities; the choices of one action are independent.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_prob(u: Array, mean: Array, log_std: Array, where: Array | None = None) -> Array:
    """Log-density of ``u`` under the Gaussian, summed over the last axis: [..., A] -> [...]."""
    z = (u - mean) * jnp.exp(-log_std)
    return -(0.5 * z * z + log_std + _HALF_LOG_TWO_PI).sum(-1, where=where)


def squash_log_det(u: Array, where: Array | None = None) -> Array:
    """``log |d tanh(u) / du|`` summed over the last axis: [..., A] -> [...].

    Uses ``log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))``, which does not cancel for large ``|u|``.
    """
    return (2 * (math.log(2) - u - jax.nn.softplus(-2 * u))).sum(-1, where=where)


def gaussian_entropy(log_std: Array, where: Array | None = None) -> Array:
    """Entropy of the Gaussian before squashing (nats), summed over the last axis: [..., A] -> [...]."""
    return (log_std + _HALF_LOG_TWO_PI + 0.5).sum(-1, where=where)


def gaussian_kl(mean: Array, log_std: Array, other_mean: Array, other_log_std: Array) -> Array:
    """KL(Gaussian || other Gaussian) in nats, summed over the last axis: [..., A] -> [...].

    Exact for the squashed distributions too: a divergence does not change when both are squashed by the same function.
    """
    variance_ratio = jnp.exp(2 * (log_std - other_log_std))
    distance = jnp.square((mean - other_mean) * jnp.exp(-other_log_std))
    return (0.5 * (variance_ratio + distance - 1) + other_log_std - log_std).sum(-1)


def entropy_estimate(u: Array, mean: Array, log_std: Array, where: Array | None = None) -> Array:
    """Estimate of the squashed distribution's entropy (nats) from one sample ``u``: [..., A] -> [...].

    The squashed Gaussian's entropy has no closed form. This is the Gaussian's own entropy, which is exact, plus the
    squashing term at the sample; unbiased when ``u`` was drawn from the distribution. So is its derivative by ``mean``
    and ``log_std``, which moves the sample as they move: ``u = mean + std * noise`` (reparametrisation; Kingma and
    Welling 2014, https://arxiv.org/abs/1312.6114).
    """
    noise = lax.stop_gradient((u - mean) * jnp.exp(-log_std))
    return gaussian_entropy(log_std, where) + squash_log_det(mean + jnp.exp(log_std) * noise, where)


def per_choice(x: Array, categories: tuple[int, ...]) -> list[Array]:
    """An array over the categories of all choices, [..., sum of n], as one for each choice, [..., n] each."""
    ends = [sum(categories[: i + 1]) for i in range(len(categories) - 1)]
    return jnp.split(x, ends, axis=-1)


def categorical_log_probs(logits: Array, categories: tuple[int, ...]) -> list[Array]:
    """Log-probabilities of each choice's categories, [..., n] each, from the logits of all choices [..., sum of n]."""
    return [jax.nn.log_softmax(part) for part in per_choice(logits, categories)]


def categorical_log_prob(chosen: Array, logits: Array, categories: tuple[int, ...]) -> Array:
    """Log-probability of the chosen indices [..., choices], summed over the choices: [...]."""
    own = [chosen[..., i] for i in range(len(categories))]
    each = categorical_log_probs(logits, categories)
    return _sum([jnp.where(_is(i, x), x, 0).sum(-1) for i, x in zip(own, each, strict=True)])


def categorical_entropy(logits: Array, categories: tuple[int, ...]) -> Array:
    """Entropy in nats, summed over the choices: [..., sum of n] -> [...]."""
    return _sum([-(jnp.exp(x) * x).sum(-1) for x in categorical_log_probs(logits, categories)])


def categorical_kl(logits: Array, other_logits: Array, categories: tuple[int, ...]) -> Array:
    """KL(categorical || other categorical) in nats, summed over the choices: [..., sum of n] -> [...]."""
    pairs = zip(categorical_log_probs(logits, categories), categorical_log_probs(other_logits, categories), strict=True)
    return _sum([(jnp.exp(x) * (x - y)).sum(-1) for x, y in pairs])


def _is(index: Array, log_probs: Array) -> Array:
    """Which of the categories [..., n] has the index [...], bool."""
    return jnp.arange(log_probs.shape[-1]) == index[..., None].astype(jnp.int32)


def _sum(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
