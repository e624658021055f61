"""The distributions of choices, alone and beside numbers: NumPy's formulas in float64, derivatives, masks, samples."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mjxppo.envs.actions import ActionSpec
from mjxppo.ppo import distribution
from mjxppo.ppo.heads import Categorical, Gaussian, Mixed, head_of

CATEGORIES = (3, 2, 5)
SPLITS = np.cumsum(CATEGORIES)[:-1]
HEADS = {"choices": head_of(ActionSpec(0, CATEGORIES)), "both": head_of(ActionSpec(2, CATEGORIES))}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def case(head: str, seed: int = 0):
    """Outputs of a network, others near them, and a drawn action, for 7 samples."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(7, sum(CATEGORIES)))
    chosen = np.stack([rng.integers(n, size=7) for n in CATEGORIES], axis=-1).astype(float)
    numbers = rng.normal(size=(2, 7, 2)) * 0.5
    outputs, u = (logits,), chosen
    if head == "both":
        outputs, u = (*numbers, logits), np.c_[rng.normal(size=(7, 2)), chosen]
    other = tuple(x + 0.3 * rng.normal(size=x.shape) for x in outputs)
    return tuple(map(jnp.asarray, outputs)), tuple(map(jnp.asarray, other)), jnp.asarray(u)


def probabilities(logits):
    return [special.softmax(part, axis=-1) for part in np.split(np.asarray(logits), SPLITS, axis=-1)]


def gaussians(outputs):
    return stats.norm(np.asarray(outputs[0]), np.exp(np.asarray(outputs[1])))


def test_which_head_is_for_which_actions():
    assert isinstance(head_of(ActionSpec(3)), Gaussian)
    assert isinstance(HEADS["choices"], Categorical) and isinstance(HEADS["both"], Mixed)


@pytest.mark.parametrize("name", HEADS)
def test_log_probability_entropy_and_divergence_are_those_of_the_formulas(name):
    head, (outputs, other, u) = HEADS[name], case(name)
    log_prob = entropy = kl = np.zeros(7)
    ps, qs = probabilities(outputs[-1]), probabilities(other[-1])
    for i, (p, q) in enumerate(zip(ps, qs, strict=True)):
        index = np.asarray(u)[:, u.shape[1] - len(CATEGORIES) + i].astype(int)
        log_prob = log_prob + np.log(p[np.arange(7), index])
        entropy = entropy + stats.entropy(p, axis=-1)
        kl = kl + stats.entropy(p, q, axis=-1)
    if name == "both":
        log_prob = log_prob + gaussians(outputs).logpdf(np.asarray(u)[:, :2]).sum(-1)
        entropy = entropy + gaussians(outputs).entropy().sum(-1)
        kl = kl + np.asarray(distribution.gaussian_kl(*outputs[:2], *other[:2]))
    np.testing.assert_allclose(head.log_prob(u, outputs), log_prob, rtol=1e-12)
    np.testing.assert_allclose(head.entropy(outputs), entropy, rtol=1e-12)
    np.testing.assert_allclose(head.kl(outputs, other), kl, rtol=1e-10)
    np.testing.assert_allclose(head.kl(outputs, outputs), 0, atol=1e-14)


def test_the_log_probabilitys_gradient_is_the_choice_minus_the_probabilities():
    outputs, _, u = case("choices")
    gradient = jax.grad(lambda logits: HEADS["choices"].log_prob(u, (logits,)).sum())(outputs[0])
    chosen = [np.eye(n)[np.asarray(u)[:, i].astype(int)] for i, n in enumerate(CATEGORIES)]
    by_hand = np.concatenate(chosen, axis=-1) - np.concatenate(probabilities(outputs[0]), axis=-1)
    np.testing.assert_allclose(gradient, by_hand, atol=1e-14)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("of", ["log_prob", "entropy", "kl"])
def test_gradients_equal_finite_differences(name, of):
    head, (outputs, other, u) = HEADS[name], case(name, 1)
    functions = {"log_prob": partial(head.log_prob, u), "entropy": head.entropy, "kl": partial(head.kl, other)}
    function = lambda outputs: functions[of](outputs).sum()  # noqa: E731
    gradient = jax.grad(function)(outputs)
    rng = np.random.default_rng(2)
    direction = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in outputs)
    moved = [tuple(x + step * d for x, d in zip(outputs, direction, strict=True)) for step in (1e-6, -1e-6)]
    slope = (function(moved[0]) - function(moved[1])) / 2e-6
    np.testing.assert_allclose(sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)), slope, rtol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_the_fisher_product_is_the_divergences_hessian_times_a_vector(name):
    head, (outputs, change, _) = HEADS[name], case(name, 3)
    weight = jnp.linspace(0.5, 1.5, 7)[:, None]
    at = lambda moved: (weight[:, 0] * head.kl(outputs, moved)).sum()  # noqa: E731
    product = jax.jvp(jax.grad(at), (outputs,), (change,))[1]
    for ours, exact in zip(head.fisher_product(outputs, change, weight), product, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_samples_have_the_probabilities(name):
    head, (outputs, _, _) = HEADS[name], case(name)
    one = tuple(x[:1] for x in outputs)
    keys = jax.random.split(jax.random.key(0), 20_000)
    u = np.asarray(jax.vmap(lambda key: head.sample(one, head.noise(key))[0])(keys))
    for i, p in enumerate(probabilities(one[-1])):
        counts = np.bincount(u[:, u.shape[1] - len(CATEGORIES) + i].astype(int), minlength=CATEGORIES[i])
        assert stats.chisquare(counts, 20_000 * p[0]).pvalue > 1e-4
    correlation = np.corrcoef(u.T) - np.eye(u.shape[1])
    assert np.abs(correlation).max() < 0.04, "the parts are independent"
    if name == "both":
        mean, std = float(one[0][0, 0]), float(np.exp(one[1][0, 0]))
        assert stats.kstest(u[:, 0], stats.norm(mean, std).cdf).pvalue > 1e-4
        np.testing.assert_allclose(head.action(u)[:, :2], np.tanh(u[:, :2]), rtol=1e-12)
    np.testing.assert_array_equal(head.action(jnp.asarray(u))[:, -3:], u[:, -3:])


class TestMasks:
    MASK = np.ones((7, sum(CATEGORIES)), bool)
    MASK[:, [0, 6, 8]] = False
    MASK[2:4, 5:] = False  # the third choice has nothing left, and is free

    @pytest.mark.parametrize("name", HEADS)
    def test_what_is_forbidden_has_no_probability_and_the_rest_shares_it(self, name):
        head, (outputs, _, _) = HEADS[name], case(name)
        masked = head.masked(outputs, jnp.asarray(self.MASK))
        free = np.split(self.MASK, SPLITS, axis=-1)
        for p, before, may in zip(probabilities(masked[-1]), probabilities(outputs[-1]), free, strict=True):
            may = may | ~may.any(-1, keepdims=True)
            np.testing.assert_allclose(p, np.where(may, before, 0) / np.where(may, before, 0).sum(-1, keepdims=True))
        np.testing.assert_array_equal(head.masked(outputs, None)[-1], outputs[-1])

    @pytest.mark.parametrize("name", HEADS)
    def test_it_is_never_drawn_and_no_gradient_reaches_it(self, name):
        head, (outputs, other, _) = HEADS[name], case(name)
        mask = jnp.asarray(self.MASK)
        keys = jax.random.split(jax.random.key(1), 500)
        u = jax.vmap(lambda key: head.sample(head.masked(outputs, mask), head.noise(key)))(keys)
        chosen = np.asarray(u)[..., -3:].astype(int)
        assert set(chosen[..., 0].ravel()) == {1, 2}
        assert set(chosen[:, 0, 2]) <= {0, 2, 4} and set(chosen[:, 2, 2]) >= {1, 3}

        def total(outputs, other):
            masked = head.masked(outputs, mask)
            log_prob = head.log_prob(u[0], masked) * (1 + head.kl(masked, head.masked(other, mask)))
            return (log_prob + head.entropy(masked)).sum()

        gradient = jax.grad(total)(outputs, other)
        assert all(np.isfinite(x).all() for x in gradient) and np.isfinite(total(outputs, other))
        np.testing.assert_array_equal(np.asarray(gradient[-1])[:, 0], 0)
        assert (np.asarray(gradient[-1])[:, 1] != 0).all()
