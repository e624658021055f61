"""The gradient's GPU kernel: interpreted it is autodiff of the loss, for every network that it takes; and it lowers."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo import fused, losses, networks

OBS, ACTIONS = 17, 6


def case(policy: PolicyConfig, slices=6, width=20, obs=OBS, actions=ACTIONS, own_size=None):
    """Networks with parameters of some size in each place, and samples of which a seventh counts for nothing."""
    network = networks.build(actions, policy, own_size)
    params = networks.init_params(network, obs, jax.random.key(0))
    flat, unravel = ravel_pytree(params)
    keys = jax.random.split(jax.random.key(1), 7)
    params = unravel(flat + 0.1 * jax.random.normal(keys[0], flat.shape))
    shape = (slices, width)
    observations = jax.random.normal(keys[1], (*shape, obs))
    mean, log_std = networks.apply_policy(network, params, observations)
    samples = losses.Samples(
        obs=observations,
        u=mean + jnp.exp(log_std) * jax.random.normal(keys[2], mean.shape),
        log_prob=jax.random.normal(keys[3], shape) * 0.3 - actions * 1.4,
        advantage=jax.random.normal(keys[4], shape),
        target=jax.random.normal(keys[5], shape),
        value=jax.random.normal(keys[6], shape),
        valid=(jnp.arange(slices * width) % 7 > 0).astype(jnp.float32).reshape(shape),
    )
    return network, params, samples


def by_autodiff(network, params, slices, chosen, step, config):
    flat, unravel = ravel_pytree(params)
    part = jax.tree.map(lambda x: x[chosen].reshape(-1, *x.shape[2:]), slices)
    part = replace(part, advantage=(part.advantage - step.advantage_mean) * step.advantage_scale)
    objective = lambda flat: losses.loss(unravel(flat), network, part, step.count, config, step.kl_penalty)  # noqa: E731
    return jax.grad(objective, has_aux=True)(flat)


def assert_equals_autodiff(network, params, samples, config, chosen=(4, 0, 3)):
    assert fused.supports(network, samples)
    chosen = jnp.int32(chosen)
    count = samples.valid[chosen].sum()
    step = fused.Step(count, jnp.float32(3.0), 0.1, 1.3)
    flat, _ = ravel_pytree(params)

    def kernel(flat):
        return fused.gradient(flat, network, params, samples, chosen, step, config, interpret=True)

    gradient, terms = jax.jit(kernel)(flat)
    expected, expected_terms = jax.jit(lambda p: by_autodiff(network, p, samples, chosen, step, config))(params)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    for name, value in vars(expected_terms).items():
        if value is not None:
            np.testing.assert_allclose(vars(terms)[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "policy",
    [
        PolicyConfig(hidden_sizes=(64, 64), activation="silu", std="state_independent"),
        PolicyConfig(hidden_sizes=(32, 48), activation="tanh"),
        PolicyConfig(hidden_sizes=(128, 128), critic_hidden_sizes=(20,), activation="elu"),
        PolicyConfig(hidden_sizes=(7, 16, 9), activation="relu", std="state_independent"),
    ],
    ids=lambda policy: f"{policy.hidden_sizes}-{policy.activation}-{policy.std}",
)
def test_the_interpreted_kernel_is_autodiff_of_the_loss(policy):
    """With 60 samples, no multiple of the kernel's 32, of which a seventh counts for nothing."""
    assert_equals_autodiff(*case(policy), PpoConfig(entropy_coef=0.1, value_coef=0.7))
