"""The losses, on one minibatch of S samples."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo import distribution
from mjxppo.ppo.networks import ActorCritic, Params, apply_policy, apply_value

Array = jax.Array


@flax.struct.dataclass
class Samples:
    """What the loss needs of each sample; every array leads with [S]."""

    obs: Array
    u: Array
    log_prob: Array
    advantage: Array
    target: Array
    """What the critic should predict, in its own (normalised) units."""
    value: Array
    """What it predicted before the update, likewise."""
    valid: Array
    """Weight of the sample: 1, or 0 for one without meaning."""
    reference: tuple[Array, Array] | None = None
    """Mean and log-std that a reference policy has for what was observed, each [S, action_size]; see ``Reference``."""


@flax.struct.dataclass
class LossTerms:
    """Means over the samples, each []."""

    policy_loss: Array
    value_loss: Array
    entropy: Array
    """Estimate for the squashed distribution, see ``distribution.entropy_estimate``; nats."""
    approx_kl: Array
    """KL(old || new), by ``ratio - 1 - log ratio`` (Schulman, http://joschu.net/blog/kl-approx.html).

    0 in imitation, where the policy has not drawn the samples itself."""
    clip_fraction: Array
    """Share of samples whose ratio lies outside the clip range."""
    std: Array
    """Standard deviation before squashing, mean over action dimensions."""
    reference_kl: Array | None = None
    """KL(reference || policy), exact; nats. None where there is no reference."""


def loss(
    params: Params,
    network: ActorCritic,
    samples: Samples,
    count: Array,
    config: PpoConfig,
    kl_penalty: Array,
    reference_coef: Array | float = 0.0,
) -> tuple[Array, LossTerms]:
    """Policy, value and entropy loss (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

    Args:
        params: what is differentiated.
        network: the actor and the critic.
        samples: S samples; on several devices, this device's share of the minibatch.
        count: number of valid samples in the whole minibatch over the number of devices, so that the mean over
            devices of this function's sums over ``count`` is the mean over the minibatch, [].
        config: the algorithm's settings.
        kl_penalty: present coefficient of the KL penalty, [].
        reference_coef: present coefficient of KL(reference || policy), [].

    Returns:
        The scalar loss and its terms.
    """
    mean, log_std = apply_policy(network, params, samples.obs)
    value = apply_value(network, params, samples.obs)

    def average(x: Array) -> Array:
        return (x * samples.valid).sum() / count

    # The squashing terms of numerator and denominator are equal and cancel in the ratio.
    log_ratio = distribution.gaussian_log_prob(samples.u, mean, log_std) - samples.log_prob
    own = config.loss != "imitation"  # what another has drawn says nothing of how far the policy has moved
    log_ratio = jnp.where(samples.valid > 0, log_ratio, 0) if own else jnp.zeros_like(log_ratio)
    ratio = jnp.exp(log_ratio)
    approx_kl = average(ratio - 1 - log_ratio)

    reference_kl = None
    if samples.reference is not None:
        reference_kl = average(distribution.gaussian_kl(*samples.reference, mean, log_std))

    if config.loss == "imitation":
        assert reference_kl is not None
        policy_loss = reference_kl
    elif config.loss == "clip":
        clipped = jnp.clip(ratio, 1 - config.clip_eps, 1 + config.clip_eps)
        policy_loss = -average(jnp.minimum(ratio * samples.advantage, clipped * samples.advantage))
    else:
        policy_loss = -average(ratio * samples.advantage)
        if config.loss == "kl_penalty":
            policy_loss = policy_loss + kl_penalty * approx_kl

    error = jnp.square(value - samples.target)
    if config.value_clip_eps > 0:
        limited = samples.value + jnp.clip(value - samples.value, -config.value_clip_eps, config.value_clip_eps)
        error = jnp.maximum(error, jnp.square(limited - samples.target))
    value_loss = 0.5 * average(error)

    bonus = average(distribution.gaussian_entropy(log_std))
    total = policy_loss + config.value_coef * value_loss - config.entropy_coef * bonus
    if own and reference_kl is not None:
        total = total + reference_coef * reference_kl
    return total, LossTerms(
        policy_loss=policy_loss,
        value_loss=value_loss,
        entropy=average(distribution.entropy_estimate(samples.u, log_std)),
        approx_kl=approx_kl,
        clip_fraction=average((jnp.abs(ratio - 1) > config.clip_eps).astype(ratio.dtype)),
        std=average(jnp.exp(log_std).mean(-1)),
        reference_kl=reference_kl,
    )
