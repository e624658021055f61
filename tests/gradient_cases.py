"""Networks and samples for tests of the gradient's kernel, and the gradient by autodiff."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import PolicyConfig
from mjxppo.ppo import distribution, losses, networks

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
