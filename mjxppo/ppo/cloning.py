"""Behaviour cloning: the likelihood of demonstrated actions, maximised on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo.gradient import Carry, adam_step, optimizer
from mjxppo.ppo.networks import ActorCritic, Params, apply_policy, parameter_bounds

Array = jax.Array

MOST_NUMBER = 0.999
"""Actions nearer to -1 or 1 are taken as this far: the number before squashing would be infinite at the bounds."""


class Pairs(NamedTuple):
    """T observations and the actions that were taken there."""

    obs: Array
    """As the networks see them, [T, obs_size]."""
    u: Array
    """As the head gives them: before squashing, and indices of categories, [T, action_size]."""


class Fit(NamedTuple):
    """A fit under way."""

    carry: Carry
    """Flat parameters, and the optimiser's state."""
    kept: Array
    """The flat parameters with the least loss on the pairs held out so far; the newest ones where there are none."""
    least: Array
    """That loss, []."""


def before_squashing(action: Array, numbers: int) -> Array:
    """``Pairs.u`` for vectors of actions [T, action_size], of which the first ``numbers`` are squashed."""
    bounded = jnp.clip(action[:, :numbers], -MOST_NUMBER, MOST_NUMBER)
    return jnp.concatenate([jnp.arctanh(bounded), action[:, numbers:]], axis=1)


def loss(params: Params, network: ActorCritic, pairs: Pairs) -> Array:
    """Negative log-likelihood of the actions, as the environment takes them, mean over the pairs, [], nats."""
    head = network.head
    log_prob = head.log_prob(pairs.u, apply_policy(network, params, pairs.obs))
    return (head.squash_log_det(pairs.u) - log_prob).mean()


def begin(params: Params, config: PpoConfig) -> Fit:
    """The fit before its first epoch."""
    flat = ravel_pytree(params)[0]
    return Fit((flat, optimizer(config).init(flat)), jnp.copy(flat), jnp.float32(jnp.inf))


def epochs_of(
    network: ActorCritic, params: Params, policy: PolicyConfig, config: PpoConfig, minibatch_size: int
) -> Callable[[Fit, Pairs, Pairs | None, Array, Array], tuple[Fit, Array, Array]]:
    """The jitted function that goes over all pairs once, in minibatches, and returns ``(fit, loss, held_out_loss)``.

    Its arguments are the fit, the pairs, those held out (None: none), a random key and the step size [].
    ``params`` gives the parameters' shapes. A rest smaller than a minibatch is left out, another one in each epoch.
    """
    unravel = ravel_pytree(params)[1]
    lower, upper = (ravel_pytree(bound)[0] for bound in parameter_bounds(params, jnp.float32(policy.min_log_std)))

    def step(carry: Carry, chosen: Array, pairs: Pairs, rate: Array) -> tuple[Carry, Array]:
        part = jax.tree.map(lambda x: x[chosen], pairs)
        value, gradient = jax.value_and_grad(lambda flat: loss(unravel(flat), network, part))(carry[0])
        carry, _, _ = adam_step(config, carry, gradient, rate, (lower, upper), None, jnp.array(True))
        return carry, value

    def epoch(fit: Fit, pairs: Pairs, held_out: Pairs | None, key: Array, rate: Array) -> tuple[Fit, Array, Array]:
        count = pairs.obs.shape[0]
        size = min(minibatch_size, count)
        order = jax.random.permutation(key, count)[: count // size * size].reshape(-1, size)
        carry, losses = lax.scan(partial(step, pairs=pairs, rate=rate), fit.carry, order)
        mean = losses.mean()
        if held_out is None:
            return Fit(carry, carry[0], mean), mean, jnp.float32(jnp.nan)
        held = loss(unravel(carry[0]), network, held_out)
        better = held < fit.least
        return Fit(carry, jnp.where(better, carry[0], fit.kept), jnp.where(better, held, fit.least)), mean, held

    return jax.jit(epoch, donate_argnums=0)


def params_of(fit: Fit, params: Params) -> Params:
    """The parameters that were kept; ``params`` gives their shapes."""
    kept: Params = ravel_pytree(params)[1](fit.kept)
    return kept
