"""Initialisation, the two kinds of standard deviation, and PopArt's rescaling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.config.schema import PolicyConfig
from mjxppo.ppo import networks


def build(**options):
    network = networks.build(3, PolicyConfig(**{"hidden_sizes": (32, 16)} | options))
    return network, networks.init_params(network, 5, jax.random.key(0))


def test_weights_are_orthogonal_with_the_documented_scales():
    _, params = build(std="state_independent")
    actor, critic = params["params"]["actor"]["mlp"], params["params"]["critic"]
    for layers, head_scale in ((actor, 0.01), (critic, 1.0)):
        for name, scale in (("hidden_0", np.sqrt(2)), ("hidden_1", np.sqrt(2)), ("head", head_scale)):
            kernel = np.asarray(layers[name]["kernel"], np.float64)
            singular = np.linalg.svd(kernel, compute_uv=False)
            np.testing.assert_allclose(singular, scale, rtol=1e-4)
            np.testing.assert_array_equal(layers[name]["bias"], 0)


@pytest.mark.parametrize("std", ["state_dependent", "state_independent"])
def test_std_starts_at_its_initial_value_and_mean_near_zero(std):
    network, params = build(std=std, init_log_std=-0.5, min_log_std=-1.2)
    mean, log_std = network.apply(params, jax.random.normal(jax.random.key(1), (100, 5)), method="policy")
    assert mean.shape == log_std.shape == (100, 3)
    assert np.abs(mean).max() < 0.1
    np.testing.assert_allclose(log_std, -0.5, atol=0.05)


def test_state_dependent_std_never_falls_below_its_floor_and_keeps_a_gradient():
    network, params = build(std="state_dependent", init_log_std=0.0, min_log_std=-1.0)
    head = params["params"]["actor"]["mlp"]["head"]
    head["bias"] = head["bias"].at[3:].set(-20.0)
    x = jnp.ones((1, 5))
    _, log_std = network.apply(params, x, method="policy")
    assert (np.asarray(log_std) >= -1.0).all()
    np.testing.assert_allclose(log_std, -1.0, atol=1e-3)
    head["bias"] = head["bias"].at[3:].set(-3.0)
    grad = jax.grad(lambda p: network.apply(p, x, method="policy")[1].sum())(params)
    assert (np.asarray(grad["params"]["actor"]["mlp"]["head"]["bias"][3:]) > 0).all()


def test_bounds_are_those_of_a_state_independent_std_only():
    _, params = build(std="state_independent", min_log_std=-1.2)
    for bounds, log_std, none in zip(
        networks.parameter_bounds(params, -1.2), (-1.2, 2.0), (-np.inf, np.inf), strict=True
    ):
        np.testing.assert_allclose(bounds["params"]["actor"]["log_std"], log_std)
        others = [leaf for leaf in jax.tree.leaves(bounds) if leaf.shape != (3,) or not np.allclose(leaf, log_std)]
        assert all((leaf == none).all() for leaf in others)


def test_rescaling_the_value_head_keeps_the_values_it_stands_for():
    network, params = build(std="state_independent")
    x = jax.random.normal(jax.random.key(2), (50, 5))
    before = network.apply(params, x, method="value") * 3.0 + 10.0
    rescaled = networks.rescale_value_head(params, 10.0, 3.0, -4.0, 7.5)
    after = network.apply(rescaled, x, method="value") * 7.5 - 4.0
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_lecun_normal_initialisation_draws_weights_of_unit_output_variance():
    _, params = build(std="state_independent", initialization="lecun_normal", hidden_sizes=(400, 400))
    kernel = np.asarray(params["params"]["actor"]["mlp"]["hidden_1"]["kernel"])
    np.testing.assert_allclose(kernel.std(), 1 / np.sqrt(400), rtol=0.02)
    gram = kernel.T @ kernel
    assert np.abs(gram - np.diag(np.diag(gram))).max() > 0.05, "not orthogonal"


@pytest.mark.parametrize("privileged", ["none", "critic", "both"])
def test_who_sees_the_privileged_end_of_an_observation(privileged):
    network = networks.build(3, PolicyConfig(hidden_sizes=(16,), privileged=privileged), own_size=5)
    params = networks.init_params(network, 9, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 9))
    of_policy = jax.grad(lambda x: sum(jnp.square(y).sum() for y in networks.apply_policy(network, params, x)))(x)
    of_value = jax.grad(lambda x: networks.apply_value(network, params, x).sum())(x)
    assert (np.asarray(of_policy[:, :5]) != 0).all() and (np.asarray(of_value[:, :5]) != 0).all()
    assert (np.asarray(of_policy[:, 5:]) != 0).all() == (privileged == "both") == np.asarray(of_policy[:, 5:]).any()
    assert (np.asarray(of_value[:, 5:]) != 0).all() == (privileged != "none") == np.asarray(of_value[:, 5:]).any()
