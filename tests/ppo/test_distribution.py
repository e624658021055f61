"""The tanh-Gaussian's densities against a float64 numerical change of variables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from mjxppo.ppo import distribution


def log_prob(u, mean, log_std):
    """Log-density of the action tanh(u): [..., A] -> [...]."""
    return distribution.gaussian_log_prob(u, mean, log_std) - distribution.squash_log_det(u)


def density_of_action(action, mean, std):
    """d/da P(tanh(u) <= a), by float64 central differences of the cumulative distribution."""
    h = 1e-6 * (1 - abs(action))
    # The tail on the action's own side: the other one's differences would vanish in rounding.
    upper = np.arctanh(action) > mean
    tail = lambda a: (stats.norm.sf if upper else stats.norm.cdf)(np.arctanh(a), mean, std)  # noqa: E731
    return abs(tail(action + h) - tail(action - h)) / (2 * h)


def test_log_prob_is_the_density_of_the_action():
    for mean, log_std in [(0.0, 0.0), (0.7, -0.5), (-1.2, -1.0), (0.3, 0.5)]:
        for action in (-0.95, -0.3, 0.0, 0.5, 0.9):
            u = np.arctanh(action)
            ours = log_prob(jnp.array([u]), jnp.array([mean]), jnp.array([log_std]))
            np.testing.assert_allclose(
                ours, np.log(density_of_action(action, mean, np.exp(log_std))), rtol=1e-4, atol=1e-4
            )


def test_dimensions_are_independent_so_their_log_probs_add_up():
    u, mean, log_std = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    joint = log_prob(u, mean, log_std)
    parts = sum(log_prob(u[:, i : i + 1], mean[:, i : i + 1], log_std[:, i : i + 1]) for i in range(4))
    np.testing.assert_allclose(joint, parts, rtol=1e-5)


def test_the_ratio_of_two_policies_needs_no_squashing_term():
    u, mean, log_std = np.random.default_rng(1).normal(size=(3, 50, 3)).astype(np.float32)
    log_std = 0.3 * log_std
    full = log_prob(u, mean + 0.1, log_std) - log_prob(u, mean, log_std - 0.05)
    plain = distribution.gaussian_log_prob(u, mean + 0.1, log_std) - distribution.gaussian_log_prob(
        u, mean, log_std - 0.05
    )
    np.testing.assert_allclose(full, plain, atol=1e-5)
    reference = stats.norm.logpdf(u.astype(float), mean + 0.1, np.exp(log_std)).sum(-1) - stats.norm.logpdf(
        u.astype(float), mean, np.exp(log_std - 0.05)
    ).sum(-1)
    np.testing.assert_allclose(plain, reference, atol=1e-4)


def test_log_prob_and_its_gradient_stay_finite_where_atanh_would_not():
    for u in (-40.0, -9.0, 9.0, 40.0):
        value, grad = jax.value_and_grad(lambda x: log_prob(x, jnp.zeros(1), jnp.zeros(1)))(jnp.array([u]))
        exact = stats.norm.logpdf(u) - 2 * (np.log(2) - abs(u) - np.log1p(np.exp(-2 * abs(u))))
        np.testing.assert_allclose(value, exact, rtol=1e-6)
        assert np.isfinite(grad).all()


def test_entropy_estimate_is_unbiased_for_the_squashed_entropy():
    mean, log_std = 0.4, -0.3
    std = np.exp(log_std)

    def minus_p_log_p(u):
        log_density = stats.norm.logpdf(u, mean, std) - np.log1p(-(np.tanh(u) ** 2))
        return -stats.norm.pdf(u, mean, std) * log_density

    exact, _ = integrate.quad(minus_p_log_p, mean - 8 * std, mean + 8 * std)
    u = mean + std * jax.random.normal(jax.random.key(0), (200_000, 1))
    estimates = distribution.entropy_estimate(u, jnp.full((200_000, 1), mean), jnp.full((200_000, 1), log_std))
    np.testing.assert_allclose(estimates.mean(), exact, atol=4 * float(estimates.std()) / np.sqrt(200_000))


def test_the_entropys_derivative_is_the_squashed_ones_and_vanishes_at_its_maximum():
    """The squashed entropy has its maximum at mean 0 and a std of 0.87; the Gaussian's grows for ever."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def exact(mean, log_std):
        u = mean + np.exp(log_std) * nodes
        squash = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
        return log_std + 0.5 * np.log(2 * np.pi * np.e) + (weights * squash).sum() / weights.sum()

    noise = jax.random.normal(jax.random.key(1), (400_000,))
    for mean, log_std in ((0.0, np.log(0.5)), (0.0, np.log(0.8744)), (0.6, 0.3)):
        u = jnp.float32(mean + np.exp(log_std) * noise)[:, None]
        one = lambda m, s, u: distribution.entropy_estimate(u, m[None], s[None])  # noqa: E731
        each = jax.vmap(jax.grad(one, (0, 1)), (None, None, 0))(jnp.float32(mean), jnp.float32(log_std), u)
        step = 1e-5
        by_mean = (exact(mean + step, log_std) - exact(mean - step, log_std)) / (2 * step)
        by_log_std = (exact(mean, log_std + step) - exact(mean, log_std - step)) / (2 * step)
        for own, expected in zip(each, (by_mean, by_log_std), strict=True):
            assert float(own.mean()) == pytest.approx(expected, abs=4 * float(own.std()) / np.sqrt(noise.size))
    stds = np.linspace(0.5, 1.5, 1001)
    assert stds[np.argmax([exact(0, np.log(s)) for s in stds])] == pytest.approx(0.8744, abs=2e-3)


def test_gaussian_entropy_is_scipys():
    np.testing.assert_allclose(
        distribution.gaussian_entropy(jnp.array([0.3, -0.7])),
        stats.norm.entropy(0, np.exp(0.3)) + stats.norm.entropy(0, np.exp(-0.7)),
        rtol=1e-6,
    )


def test_the_divergence_of_two_gaussians_is_its_integral():
    x = np.linspace(-30, 30, 200_001)
    p, q = stats.norm.pdf(x, 0.7, np.exp(0.3)), stats.norm.pdf(x, -0.4, np.exp(0.8))
    expected = np.trapezoid(p * np.log(p / q), x)
    one = [jnp.array([value]) for value in (0.7, 0.3, -0.4, 0.8)]
    np.testing.assert_allclose(distribution.gaussian_kl(*one), expected, rtol=1e-5)
    np.testing.assert_allclose(distribution.gaussian_kl(*one[:2], *one[:2]), 0, atol=1e-7)
