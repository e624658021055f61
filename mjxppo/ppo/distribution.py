"""The tanh-squashed Gaussian policy distribution.

An action is ``tanh(u)`` with ``u ~ N(mean, std)``, each dimension independent. Its log-density is
``gaussian_log_prob(u, mean, log_std) - squash_log_det(u)``. The ratio of two policies' densities at one action does not
contain the second term, which depends on ``u`` alone; the loss therefore works with the first. ``u`` is kept wherever
the action's probability is needed later: recovering it as ``atanh(action)`` is ill-conditioned near +-1.

Sums over dimensions leave out those for which ``where`` ([A] bool; None: sum over all) is false.
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
