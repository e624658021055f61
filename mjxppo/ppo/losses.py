"""The losses, on one minibatch of S samples."""

from __future__ import annotations

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo.heads import Head, Outputs
from mjxppo.ppo.networks import ActorCritic, Params, apply_policy, apply_value

Array = jax.Array


@flax.struct.dataclass
class Samples:
    """Inputs of the loss for S samples; every array leads with [S]."""

    obs: Array
    u: Array
    """Actions before squashing, and indices of chosen categories, [S, action_size]."""
    log_prob: Array
    """Log-density of ``u`` when it was drawn, [S]."""
    advantage: Array
    target: Array
    """Value that the critic is trained to predict, in its own (normalised) units."""
    value: Array
    """Value that the critic predicted before the update, in the same units."""
    valid: Array
    """Weight of the sample: 1, or 0 for one that does not count (``Batch.valid``)."""
    reference: Outputs | None = None
    """Outputs of a reference policy for the same observations, each [S, any]; see ``reference.py``."""
    mask: Array | None = None
    """Whether each category could be chosen, [S, sum of categories] bool; None: all could."""


@flax.struct.dataclass
class LossTerms:
    """Means over the samples, each []."""

    policy_loss: Array
    value_loss: Array
    approx_kl: Array
    """KL(old || new), see ``divergence_estimate``.

    0 when imitating, because the teacher has drawn a part of the samples."""
    clip_fraction: Array
    """Share of samples whose ratio lies outside the clip range."""
    std: Array | None = None
    """Standard deviation before squashing, mean over action dimensions. None where there are only choices."""
    reference_kl: Array | None = None
    """KL(reference || policy), exact; nats. None where there is no reference policy."""


def loss(
    params: Params,
    network: ActorCritic,
    samples: Samples,
    count: Array,
    config: PpoConfig,
    kl_penalty: Array,
    reference_coef: Array | float = 0.0,
    imitate: bool = False,
) -> tuple[Array, LossTerms]:
    """Policy, value and entropy loss, [], and its terms (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

    ``samples`` are this device's share of the minibatch. ``count`` [] is the number of valid samples in the whole
    minibatch divided by the number of devices: this device's sums are divided by it, and the mean of the quotients over
    the devices is the mean over the minibatch. ``kl_penalty`` and ``reference_coef`` [] are the present coefficients of
    the KL penalty and of KL(reference || policy). With ``imitate`` the latter is the policy loss, in place of the one
    that ``config`` names.
    """
    outputs = apply_policy(network, params, samples.obs, samples.mask)
    value = apply_value(network, params, samples.obs)
    of_policy, terms = loss_of_policy(
        network.head, outputs, samples, count, config, kl_penalty, reference_coef, imitate
    )
    of_value = loss_of_value(value, samples, count, config)
    return of_policy + config.value_coef * of_value, LossTerms(value_loss=of_value, **terms)


def critic_loss(
    params: Params, network: ActorCritic, samples: Samples, count: Array, config: PpoConfig
) -> tuple[Array, LossTerms]:
    """Value loss alone, [], and its terms, of which those of the policy are 0; arguments as in ``loss``."""
    of_value = loss_of_value(apply_value(network, params, samples.obs), samples, count, config)
    zero = jnp.zeros_like(of_value)
    return of_value, LossTerms(policy_loss=zero, value_loss=of_value, approx_kl=zero, clip_fraction=zero, std=zero)


def loss_of_policy(
    head: Head,
    outputs: Outputs,
    samples: Samples,
    count: Array,
    config: PpoConfig,
    kl_penalty: Array,
    reference_coef: Array | float = 0.0,
    imitate: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Policy and entropy loss for the policy's outputs, each [S, any], [], and the fields of ``LossTerms`` it knows.

    ``head`` says what the outputs mean. The other arguments are those of ``loss``.
    """

    def average(x: Array) -> Array:
        return _average(x, samples, count)

    log_ratio = _log_ratio(head, outputs, samples, imitate)
    ratio = jnp.exp(log_ratio)
    terms = {"approx_kl": average(divergence_estimate(log_ratio))}
    if samples.reference is not None:
        terms["reference_kl"] = average(head.kl(samples.reference, outputs))
    if imitate:
        policy_loss = terms["reference_kl"]
    else:
        policy_loss = _policy_loss(config, ratio, samples.advantage, average, kl_penalty, terms["approx_kl"])
    total = policy_loss
    if isinstance(config.entropy_coef, Array) or config.entropy_coef > 0:  # an array where members differ in it
        # Samples that a teacher has drawn do not tell the squashed entropy.
        entropy = head.entropy(outputs)
        if not imitate:
            entropy = head.entropy_estimate(samples.u, outputs)
        total = total - config.entropy_coef * average(entropy)
    if samples.reference is not None and not imitate:
        total = total + reference_coef * terms["reference_kl"]
    terms |= {
        "policy_loss": policy_loss,
        "clip_fraction": average((jnp.abs(ratio - 1) > config.clip_eps).astype(ratio.dtype)),
    }
    if (std := head.std(outputs)) is not None:
        terms["std"] = average(std)
    return total, terms


def divergence_estimate(log_ratio: Array) -> Array:
    """Estimate of KL(old || new) from samples of the old, ``ratio - 1 - log ratio``, elementwise; unbiased.

    Schulman 2020, http://joschu.net/blog/kl-approx.html.
    """
    return jnp.exp(log_ratio) - 1 - log_ratio


def loss_of_value(value: Array, samples: Samples, count: Array, config: PpoConfig) -> Array:
    """Loss of the critic's values [S], [], without its coefficient."""
    return 0.5 * _average(_value_error(config, value, samples), samples, count)


def _average(x: Array, samples: Samples, count: Array) -> Array:
    return (x * samples.valid).sum() / count


def _log_ratio(head: Head, outputs: Outputs, samples: Samples, imitate: bool) -> Array:
    """Log of the ratio of the policy's density to the old policy's, [S]; 0 for samples that are not valid."""
    # The squashing terms of numerator and denominator are equal and cancel in the ratio.
    log_ratio = head.log_prob(samples.u, outputs) - samples.log_prob
    if imitate:  # samples that the teacher has drawn do not tell how far the policy has moved
        return jnp.zeros_like(log_ratio)
    return jnp.where(samples.valid > 0, log_ratio, 0)


def _policy_loss(
    config: PpoConfig,
    ratio: Array,
    advantage: Array,
    average: Callable[[Array], Array],
    kl_penalty: Array,
    approx_kl: Array,
) -> Array:
    """The policy loss that ``config.loss`` names, from ratios [S] and advantages [S], [] (Schulman et al. 2017)."""
    if config.loss == "clip":
        clipped = jnp.clip(ratio, 1 - config.clip_eps, 1 + config.clip_eps)
        return -average(jnp.minimum(ratio * advantage, clipped * advantage))
    policy_loss = -average(ratio * advantage)
    if config.loss == "kl_penalty":
        policy_loss = policy_loss + kl_penalty * approx_kl
    return policy_loss


def _value_error(config: PpoConfig, value: Array, samples: Samples) -> Array:
    """Squared error of the critic, [S]; with value clipping the larger of that and the clipped value's."""
    error = jnp.square(value - samples.target)
    if config.value_clip_eps > 0:
        limited = samples.value + jnp.clip(value - samples.value, -config.value_clip_eps, config.value_clip_eps)
        error = jnp.maximum(error, jnp.square(limited - samples.target))
    return error
