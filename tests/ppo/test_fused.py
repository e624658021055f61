"""The gradient's GPU kernel: interpreted it is autodiff of the loss, for every network that it takes; and it lowers."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo import distribution, fused, losses, networks

OBS, ACTIONS = 17, 6


def case(policy: PolicyConfig, slices=6, width=20, obs=OBS, actions=ACTIONS, own_size=None):
    """Networks with parameters of some size in each place, and samples of which a seventh counts for nothing."""
    network = networks.build(actions, policy, own_size)
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype("f")  # noqa: E731
    shapes = jax.eval_shape(lambda: networks.init_params(network, obs, jax.random.key(0)))
    params = jax.tree.map(lambda x: normal(*x.shape) / np.sqrt(x.shape[0]).astype("f"), shapes)
    observations, u = normal(slices, width, obs), normal(slices, width, actions)

    @jax.jit
    def log_prob(params):
        return distribution.gaussian_log_prob(u, *networks.apply_policy(network, params, observations))

    return (
        network,
        params,
        losses.Samples(
            obs=observations,
            u=u,
            log_prob=np.asarray(log_prob(params)) + 0.2 * normal(slices, width),
            advantage=normal(slices, width),
            target=normal(slices, width),
            value=normal(slices, width),
            valid=(np.arange(slices * width) % 7 > 0).astype("f").reshape(slices, width),
        ),
    )


def by_autodiff(network, params, slices, chosen, step, config):
    flat, unravel = ravel_pytree(params)
    part = jax.tree.map(lambda x: jnp.asarray(x)[chosen].reshape(-1, *x.shape[2:]), slices)
    part = replace(part, advantage=(part.advantage - step.advantage_mean) * step.advantage_scale)
    objective = lambda flat: losses.loss(unravel(flat), network, part, step.divisor, config, step.kl_penalty)  # noqa: E731
    return jax.grad(objective, has_aux=True)(flat)


def assert_equals_autodiff(network, params, samples, config, chosen=(4, 0, 3)):
    assert fused.supports(network, samples)
    count, chosen = jnp.float32(samples.valid[list(chosen)].sum()), jnp.int32(chosen)
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
