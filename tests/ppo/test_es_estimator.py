"""The estimator of evolution strategies: ranks by hand, and gradients that are known in closed form, in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mjxppo.config.es import EsConfig
from mjxppo.config.schema import PolicyConfig
from mjxppo.ppo import networks
from mjxppo.ppo.es.fitness import centered_ranks, pair_weights
from mjxppo.ppo.es.perturbation import (
    FullNoise,
    Layer,
    LowRankNoise,
    Noise,
    acting_layers,
    candidate_outputs,
    draw_noise,
    with_acting_layers,
)

PAIRS, SIGMA = 4096, 0.1
RAW = EsConfig(sigma=SIGMA, shaping="none")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def dense(noise: list[Noise]) -> list[Layer]:
    """The perturbations as arrays that lead with the pair."""
    kernels = []
    for own in noise:
        if isinstance(own, LowRankNoise):
            kernels.append(jnp.einsum("pik,pok->pio", own.left, own.right) / np.sqrt(own.left.shape[-1]))
        else:
            kernels.append(own.kernel)
    return [Layer(kernel, own.bias) for kernel, own in zip(kernels, noise, strict=True)]


@pytest.mark.parametrize(
    ("x", "counts", "ranks"),
    [
        ([10.0, -3.0, 5.0, 7.0, 1e9], [1, 1, 1, 1, 1], [0.25, -0.5, -0.25, 0.0, 0.5]),
        ([2.0, 1.0, 2.0, 3.0, 0.0], [1, 1, 1, 1, 1], [0.125, -0.25, 0.125, 0.5, -0.5]),
        ([4.0, 4.0, 4.0], [1, 1, 1], [0.0, 0.0, 0.0]),
        ([1.0, 99.0, 2.0, 3.0], [1, 0, 1, 1], [-0.5, 0.0, 0.0, 0.5]),
        ([1.0, 2.0], [0, 1], [0.0, -0.5]),
        ([1.0, 2.0], [0, 0], [0.0, 0.0]),
    ],
    ids=["different", "ties", "all-equal", "one-unknown", "one-known", "none-known"],
)
def test_centred_ranks_by_hand(x, counts, ranks):
    got = centered_ranks(jnp.array(x), jnp.array(counts, bool))
    np.testing.assert_allclose(got, ranks, atol=1e-12)


def test_ranks_do_not_change_under_any_growing_function_of_the_returns():
    x = jax.random.normal(jax.random.key(1), (64,))
    every = jnp.ones(64, bool)
    np.testing.assert_array_equal(centered_ranks(x, every), centered_ranks(jnp.exp(3 * x), every))


def test_the_weight_of_a_pair_by_hand():
    fitness, whole = jnp.array([3.0, 1.0, 5.0, 6.0, 0.0, 9.0]), jnp.array([1, 1, 1, 1, 1, 0], bool)
    np.testing.assert_allclose(pair_weights(RAW, fitness, whole), np.array([2, -1, 0]) / (2 * SIGMA * 2))
    ranks = EsConfig(sigma=SIGMA)
    # Of the four that count, 1, 3, 5, 6, the ranks are 0 to 3; the pair with one unknown return is left out.
    np.testing.assert_allclose(pair_weights(ranks, fitness, whole), np.array([1, -1, 0]) / 3 / (2 * SIGMA * 2))


LAYERS = [(5, 4), (4, 3)]


def problem(rank: int) -> tuple[list[Layer], list[Noise], np.ndarray]:
    """Layers, their noise for all pairs, and the noise as a matrix [PAIRS, P]."""
    rng = np.random.default_rng(3)
    layers = [Layer(jnp.asarray(rng.normal(size=(i, o))), jnp.asarray(rng.normal(size=o))) for i, o in LAYERS]
    noise = draw_noise(layers, rank, jax.random.key(7), jnp.arange(PAIRS))
    flat = np.concatenate([np.asarray(x).reshape(PAIRS, -1) for x in jax.tree.leaves(dense(noise))], axis=1)
    return layers, noise, flat


def estimate(noise: list[Noise], returns: Any, config: EsConfig = RAW) -> np.ndarray:
    """The flat gradient, from the returns [PAIRS, 2] of the pairs."""
    weights = pair_weights(config, jnp.asarray(returns).reshape(-1), jnp.ones(2 * PAIRS, bool))
    return np.asarray(ravel_pytree([own.weighted_sum(weights) for own in noise])[0])


def variance_of_linear(gradient: list[Layer], rank: int) -> np.ndarray:
    """The variance of one pair's estimate of each component of the gradient of a linear return.

    The estimate is ``epsilon (epsilon . g)``. With independent numbers its variance is ``|g|^2 + g_i^2`` (Isserlis).
    For a weight matrix with a perturbation of rank 1, ``a b^T``, whose numbers have the fourth moments of two factors,
    it is ``|g|^2 + 2 |row|^2 + 2 |column|^2 + 3 g_ij^2``.
    """
    total = sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(gradient))
    parts = []
    for layer in gradient:
        squared = np.square(layer.kernel)
        low = 2 * squared.sum(1, keepdims=True) + 2 * squared.sum(0, keepdims=True) + 3 * squared
        parts += [total + (low if rank == 1 else squared), total + np.square(layer.bias)]
    return np.concatenate([np.asarray(part).ravel() for part in parts])


@pytest.mark.parametrize("rank", [0, 1])
def test_on_a_linear_return_it_is_the_gradient_within_its_known_variance(rank):
    layers, noise, flat = problem(rank)
    assert all(isinstance(own, LowRankNoise if rank else FullNoise) for own in noise)
    rng = np.random.default_rng(4)
    gradient = [Layer(rng.normal(size=own.kernel.shape), rng.normal(size=own.bias.shape)) for own in layers]
    g = np.asarray(ravel_pytree(gradient)[0])
    shift = SIGMA * flat @ g
    error = estimate(noise, np.stack([5 + shift, 5 - shift], 1)) - g
    z = error / np.sqrt(variance_of_linear(gradient, rank) / PAIRS)
    assert np.abs(z).max() < 4.5 and 0.5 < np.square(z).mean() < 1.7, z


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_curvature_cancels_within_a_pair(rank):
    """On a quadratic return it is what it is on the linear one with the gradient at the middle."""
    layers, noise, flat = problem(rank)
    theta = np.asarray(ravel_pytree(layers)[0])
    rng = np.random.default_rng(5)
    root, slope = rng.normal(size=(theta.size, theta.size)), rng.normal(size=theta.size)
    hessian = -(root @ root.T)

    def value(x: np.ndarray) -> np.ndarray:
        return x @ slope + 0.5 * np.einsum("pi,ij,pj->p", x, hessian, x)

    returns = np.stack([value(theta + SIGMA * flat), value(theta - SIGMA * flat)], 1)
    gradient = slope + hessian @ theta
    linear = SIGMA * flat @ gradient
    got, expected = estimate(noise, returns), estimate(noise, np.stack([linear, -linear], 1))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    assert np.linalg.norm(got - gradient) < 0.2 * np.linalg.norm(gradient)


def test_on_a_step_it_is_the_smoothed_gradient_where_the_analytic_one_is_zero():
    layers, noise, flat = problem(0)
    theta = np.asarray(ravel_pytree(layers)[0])
    direction = np.random.default_rng(6).normal(size=theta.size)
    direction /= np.linalg.norm(direction)
    edge = theta @ direction + 0.5 * SIGMA

    def value(x: Any) -> Any:
        return 1.0 * (x @ direction > edge)

    analytic = jax.grad(lambda x: value(x).sum())(jnp.asarray(theta)[None])
    np.testing.assert_array_equal(analytic, 0)
    got = estimate(noise, np.stack([value(theta + SIGMA * flat), value(theta - SIGMA * flat)], 1))
    # The probability of being beyond the edge is a normal distribution function, and this its derivative.
    slope = np.exp(-0.5 * 0.5**2) / np.sqrt(2 * np.pi) / SIGMA
    assert got @ direction == pytest.approx(slope, rel=0.1)
    ranks = estimate(noise, np.stack([value(theta + SIGMA * flat), value(theta - SIGMA * flat)], 1), EsConfig(SIGMA))
    assert ranks @ direction > 0.5 * np.linalg.norm(ranks) > 0


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_perturbations_have_unit_variance_and_no_correlations(rank):
    _, noise, flat = problem(rank)
    covariance = np.cov(flat.T)
    assert np.abs(flat.mean(0)).max() < 5 / np.sqrt(PAIRS)
    assert np.abs(np.diag(covariance) - 1).max() < 0.3
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.25
    assert isinstance(noise[0], LowRankNoise) == (rank > 0)


def test_noise_of_a_pair_depends_on_key_and_number_alone():
    layers, noise, _ = problem(0)
    some = draw_noise(layers, 0, jax.random.key(7), jnp.array([17, 3]))
    jax.tree.map(lambda few, all_: np.testing.assert_array_equal(few, all_[jnp.array([17, 3])]), some, noise)
    other = draw_noise(layers, 0, jax.random.key(8), jnp.array([17]))
    assert not np.array_equal(other[0].kernel[0], noise[0].kernel[17])


def test_a_rank_that_saves_nothing_is_full():
    layers = [Layer(jnp.zeros((64, 64)), jnp.zeros(64)), Layer(jnp.zeros((64, 3)), jnp.zeros(3))]
    kinds = [type(own) for own in draw_noise(layers, 4, jax.random.key(0), jnp.arange(2))]
    assert kinds == [LowRankNoise, FullNoise]


STDS = ["state_independent", "state_dependent"]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize(("action_size", "categories"), [(2, ()), (3, (3, 2)), (1, (4,))])
def test_each_candidate_is_the_network_with_its_own_parameters(rank, std, action_size, categories):
    """The likeliest action by ``apply_policy``, with parameters that are moved by hand; a pair's two moves cancel."""
    policy = PolicyConfig(hidden_sizes=(8, 6), std=std)
    network = networks.build(action_size, policy, categories=categories)
    params = networks.init_params(network, 5, jax.random.key(0))
    layers, pairs, per_candidate = acting_layers(network, params), 3, 2
    noise = draw_noise(layers, rank, jax.random.key(1), jnp.arange(pairs))
    obs = jax.random.normal(jax.random.key(2), (2 * pairs * per_candidate, 5), jnp.float32)
    got = network.head.mode(candidate_outputs(network, layers, noise, SIGMA, obs))
    moved = []
    for candidate in range(2 * pairs):
        sign, one = 1 - 2 * (candidate % 2), jax.nn.one_hot(candidate // 2, pairs, dtype=jnp.float32)
        change = [own.weighted_sum(sign * SIGMA * one) for own in noise]
        moved.append(change)
        own = with_acting_layers(network, params, jax.tree.map(jnp.add, layers, change))
        rows = slice(candidate * per_candidate, (candidate + 1) * per_candidate)
        outputs = networks.apply_policy(network, own, obs[rows])
        np.testing.assert_allclose(got[rows], network.head.mode(outputs), rtol=1e-6, atol=1e-6)
    jax.tree.map(lambda *all_: np.testing.assert_allclose(sum(all_), 0, atol=1e-12), *moved)


@pytest.mark.parametrize("std", STDS)
def test_what_no_action_depends_on_is_left_alone(std):
    network = networks.build(2, PolicyConfig(hidden_sizes=(4,), std=std))
    params = networks.init_params(network, 3, jax.random.key(0))
    layers = acting_layers(network, params)
    assert layers[-1].kernel.shape == (4, 2)
    obs = jax.random.normal(jax.random.key(1), (6, 3))
    moved = with_acting_layers(network, params, jax.tree.map(lambda x: x + 1, layers))
    before, after = (networks.apply_policy(network, tree, obs) for tree in (params, moved))
    assert not np.allclose(before[0], after[0])
    if std == "state_independent":
        np.testing.assert_array_equal(before[1], after[1])
    else:  # its outputs' own weights
        kernels = [tree["params"]["actor"]["mlp"]["head"]["kernel"][:, 2:] for tree in (params, moved)]
        np.testing.assert_array_equal(*kernels)
    jax.tree.map(np.testing.assert_array_equal, params["params"]["critic"], moved["params"]["critic"])
    same = with_acting_layers(network, params, layers)
    jax.tree.map(np.testing.assert_array_equal, params, same)
