"""Learning from one batch: advantages, targets, and epochs of minibatch gradient steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import InitConfig, PolicyConfig, PpoConfig, minibatches_per_epoch, splits_per_step
from mjxppo.ppo import losses, minibatch, normalize, schedules
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.gae import generalized_advantages
from mjxppo.ppo.networks import ActorCritic, Params, apply_value, is_actor, parameter_floor, rescale_value_head
from mjxppo.ppo.normalize import EPSILON, RunningMoments
from mjxppo.ppo.rollout import Batch
from mjxppo.ppo.schedules import Moment
from mjxppo.ppo.state import Learner

Array = jax.Array
T = TypeVar("T")

Carry = tuple[Array, Any]
"""Flat parameters and the optimiser's state."""


class Algorithm(NamedTuple):
    """The fixed parts of learning."""

    network: ActorCritic
    policy: PolicyConfig
    config: PpoConfig
    devices: Devices
    init: InitConfig = InitConfig()


def optimizer(config: PpoConfig) -> optax.GradientTransformation:
    """Global-norm clipping and Adam's direction; the step size is applied by ``_apply_gradient``."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(config.adam_b1, config.adam_b2, config.adam_eps),
    )


@flax.struct.dataclass
class StepMetrics:
    """What one gradient step reports."""

    terms: losses.LossTerms
    grad_norm: Array
    skipped: Array
    """1 where the gradient was not finite and no step was taken, else 0."""
    taken: Array
    """1, or 0 where the step budget left the minibatch no sample, and there was nothing to learn from."""

    def mean(self, x: Array) -> Array:
        """Mean over the gradient steps that had samples."""
        return (x * self.taken).sum() / jnp.maximum(self.taken.sum(), 1)


class StepSettings(NamedTuple):
    """What all gradient steps of an update share, each []."""

    learning_rate: Array
    min_log_std: Array
    policy_moves: Array | None
    """False while only the critic learns; None where there is no such time."""
    kl_penalty: Array
    reference_coef: Array


def learn(
    algorithm: Algorithm, learner: Learner, batch: Batch, last_obs: Array, key: Array, moment: Moment
) -> tuple[Learner, dict[str, Array]]:
    """One PPO update of the networks from one batch.

    Args:
        algorithm: networks and settings.
        learner: present parameters and moments.
        batch: this device's blocks of worlds, arrays [blocks, T, B, ...].
        last_obs: observations after the last step, [blocks, B, obs_size].
        key: the update's random key, the same on all devices.
        moment: how far training has come.

    Returns:
        The learner after the update (observation moments untouched), and metrics, each [].
    """
    config, init, devices = algorithm.config, algorithm.init, algorithm.devices
    value, advantage = values_and_advantages(algorithm, learner, batch, last_obs)
    target = advantage + value
    weight = batch.valid.astype(value.dtype)
    samples_in_batch = jnp.maximum(devices.sum(weight.sum()), 1)

    def moments_of(x: Array) -> tuple[Array, Array]:
        mean = devices.sum((x * weight).sum()) / samples_in_batch
        return mean, devices.sum((jnp.square(x - mean) * weight).sum()) / samples_in_batch

    target_mean, target_var = moments_of(target)
    _, error_var = moments_of(target - value)
    if config.advantage_normalization == "batch":
        mean, var = moments_of(advantage)
        advantage = (advantage - mean) * lax.rsqrt(var + EPSILON)

    params, return_moments = learner.params, learner.return_moments
    if config.normalize_returns:
        return_moments = normalize.decay_moments(return_moments, target_mean, target_var, decay=0.99)
        params = _rescale(params, learner.return_moments, return_moments)
    target = normalize.standardize(return_moments, target)
    value = normalize.standardize(return_moments, value)

    learning_rate = schedules.learning_rate(config, learner.learning_rate, moment.progress)
    settings = StepSettings(
        learning_rate=learning_rate * schedules.warm(init, moment) if init.step_size_warmup else learning_rate,
        min_log_std=schedules.log_std_floor(algorithm.policy, moment.progress),
        policy_moves=schedules.policy_moves(init, moment) if init.critic_warmup else None,
        kl_penalty=learner.kl_penalty,
        reference_coef=schedules.anchor_coef(init, moment),
    )
    samples = losses.Samples(batch.obs, batch.u, batch.log_prob, advantage, target, value, weight, batch.reference)
    params, opt_state, steps = _epochs(algorithm, learner.opt_state, params, samples, key, settings)

    last_epoch = jax.tree.map(lambda x: x[-1], steps)
    final_kl = last_epoch.mean(last_epoch.terms.approx_kl)
    metrics = {name: steps.mean(terms) for name, terms in vars(steps.terms).items() if terms is not None}
    mean_norm = steps.mean(steps.grad_norm)
    metrics |= {
        "approx_kl": final_kl,
        "grad_norm": mean_norm,
        "grad_norm_variance": steps.mean(jnp.square(steps.grad_norm - mean_norm)),
        "skipped_gradient_steps": steps.skipped.sum(),
        "learning_rate": settings.learning_rate,
        "explained_variance": 1 - error_var / jnp.maximum(target_var, EPSILON),
        "value_target_mean": target_mean,
    }
    adapted = (
        schedules.adapt_learning_rate(config, learning_rate, final_kl, moment.progress),
        schedules.adapt_kl_penalty(config, learner.kl_penalty, final_kl),
    )
    if init.critic_warmup or init.step_size_warmup:
        wait = schedules.warming_up(init, moment)
        present = (learning_rate, learner.kl_penalty)
        adapted = jax.tree.map(lambda now, then: jnp.where(wait, now, then), present, adapted)
    learner = replace(
        learner,
        params=params,
        opt_state=opt_state,
        return_moments=return_moments,
        learning_rate=adapted[0],
        kl_penalty=adapted[1],
    )
    return learner, metrics


def values_and_advantages(algorithm: Algorithm, learner: Learner, batch: Batch, last_obs: Array) -> tuple[Array, Array]:
    """Values of the observations acted on and advantages, each [blocks, T, B], in units of the reward.

    The arguments are ``learn``'s.
    """
    config = algorithm.config
    if config.baseline:
        # Block by block, so that the working set stays in cache.
        obs = jnp.concatenate([batch.obs, last_obs[:, None]], axis=1)
        value = lax.map(lambda x: apply_value(algorithm.network, learner.params, x), obs)
        value, final_value = (_in_reward_units(learner.return_moments, x) for x in (value, batch.final_value))
    else:
        value = jnp.zeros((batch.reward.shape[0], batch.reward.shape[1] + 1, batch.reward.shape[2]))
        final_value = jnp.zeros_like(batch.reward)

    def per_block(*arrays: Array) -> Array:
        return generalized_advantages(*arrays, gamma=config.gamma, gae_lambda=config.gae_lambda)

    advantage = jax.vmap(per_block)(batch.reward, value, batch.terminated, batch.truncated, final_value, batch.valid)
    return value[:, :-1], advantage


def _in_reward_units(moments: RunningMoments, value: Array) -> Array:
    return value * jnp.sqrt(moments.var + EPSILON) + moments.mean


def _rescale(params: Params, old: RunningMoments, new: RunningMoments) -> Params:
    return rescale_value_head(params, old.mean, jnp.sqrt(old.var + EPSILON), new.mean, jnp.sqrt(new.var + EPSILON))


def _epochs(
    algorithm: Algorithm, opt_state: Any, params: Params, samples: losses.Samples, key: Array, settings: StepSettings
) -> tuple[Params, Any, StepMetrics]:
    """All gradient steps of an update; metrics lead with [num_epochs, minibatches]."""
    config, devices, network = algorithm.config, algorithm.devices, algorithm.network
    blocks, steps, size = samples.advantage.shape
    minibatches, parts = minibatches_per_epoch(config), config.num_microbatches
    splits = splits_per_step(steps, size, minibatches * parts)
    assert splits is not None, "checked when the config was read"
    units = jax.tree.map(lambda x: minibatch.to_units(x, splits), samples)
    # One flat vector: one reduction over devices and one fused Adam step, instead of one for each weight matrix.
    flat_params, unravel = ravel_pytree(params)
    floor, _ = ravel_pytree(parameter_floor(params, settings.min_log_std))
    frozen = None
    if settings.policy_moves is not None:
        frozen = ravel_pytree(is_actor(params))[0] & ~settings.policy_moves

    def gradient_step(carry: Carry, drawn: tuple[Array, Array]) -> tuple[Carry, StepMetrics]:
        chosen, count = drawn
        normalize_advantage = _advantage_normalizer(config, units, chosen, count, devices)

        def of_part(chosen: Array) -> tuple[Array, losses.LossTerms]:
            part = jax.tree.map(lambda x: x[chosen].reshape(-1, *x.shape[2:]), units)
            part = replace(part, advantage=normalize_advantage(part.advantage))

            def objective(flat: Array) -> tuple[Array, losses.LossTerms]:
                return losses.loss(
                    unravel(flat), network, part, count, config, settings.kl_penalty, settings.reference_coef
                )

            return jax.grad(objective, has_aux=True)(carry[0])

        gradient, terms = _sum_of_parts(of_part, chosen)
        gradient, any_samples = devices.mean(gradient), count >= 0.5 / devices.count
        carry, norm, finite = _apply_gradient(
            config, carry, gradient, settings.learning_rate, floor, frozen, any_samples
        )
        norm = jnp.where(finite, norm, 0)
        return carry, StepMetrics(terms=terms, grad_norm=norm, skipped=~finite, taken=any_samples.astype(norm.dtype))

    def epoch(carry: Carry, number: Array) -> tuple[Carry, StepMetrics]:
        epoch_key = jax.random.fold_in(key, number)
        first_block = devices.index() * blocks
        chosen = minibatch.draw(epoch_key, first_block, blocks, steps * splits, minibatches * parts)
        chosen = chosen.reshape(minibatches, parts, -1)
        counts = devices.mean(units.valid.sum(-1)[chosen].sum((-2, -1)))
        carry, metrics = lax.scan(gradient_step, carry, (chosen, jnp.maximum(counts, 1e-6)))
        # Each reduction makes the devices wait for each other, so the terms are reduced once an epoch.
        return carry, replace(metrics, terms=devices.mean(metrics.terms))

    carry = (flat_params, opt_state)
    if config.max_kl > 0:
        carry, metrics = _epochs_until(epoch, carry, config.num_epochs, config.max_kl)
    else:
        carry, metrics = lax.scan(epoch, carry, jnp.arange(config.num_epochs))
    return unravel(carry[0]), carry[1], metrics


def _epochs_until(
    epoch: Callable[[Carry, Array], tuple[Carry, StepMetrics]], carry: Carry, num_epochs: int, max_kl: float
) -> tuple[Carry, StepMetrics]:
    """Epochs until the KL divergence exceeds ``max_kl``; the metrics of skipped ones repeat the last one's."""

    def maybe_epoch(state: tuple[Carry, StepMetrics], number: Array) -> tuple[tuple[Carry, StepMetrics], StepMetrics]:
        stop = (number > 0) & (state[1].terms.approx_kl.mean() > max_kl)
        state = lax.cond(stop, lambda: state, lambda: epoch(state[0], number))
        return state, state[1]

    shapes = jax.eval_shape(epoch, carry, jnp.int32(0))[1]
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (carry, _), metrics = lax.scan(maybe_epoch, (carry, none), jnp.arange(num_epochs))
    return carry, metrics


def _sum_of_parts(of_part: Callable[[Array], T], parts: Array) -> T:
    """``of_part`` of each part, [parts, ...], added up one after the other, so that only one needs room at a time."""
    if parts.shape[0] == 1:
        return of_part(parts[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_part, parts[0]))
    total: T = lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, of_part(part)), None), zeros, parts)[0]
    return total


def _advantage_normalizer(
    config: PpoConfig, units: losses.Samples, chosen: Array, count: Array, devices: Devices
) -> Callable[[Array], Array]:
    """Brings advantages to zero mean and unit variance over a minibatch, if configured; ``count`` as in ``loss``."""
    if config.advantage_normalization != "minibatch":
        return lambda advantage: advantage
    advantage, valid = units.advantage[chosen], units.valid[chosen]

    def average(x: Array) -> Array:
        return devices.mean((x * valid).sum() / count)

    mean = average(advantage)
    scale = lax.rsqrt(average(jnp.square(advantage - mean)) + EPSILON)
    return lambda advantage: (advantage - mean) * scale


def _apply_gradient(
    config: PpoConfig,
    carry: Carry,
    gradient: Array,
    learning_rate: Array,
    floor: Array,
    frozen: Array | None,
    any_samples: Array,
) -> tuple[Carry, Array, Array]:
    """One Adam step on the flat parameters, or none where the gradient is not finite or of no samples.

    Frozen parameters stay, but their gradients still enter Adam's moments. With moments of nothing but zeros, and a
    count that no longer corrects for it, their first steps would be several times too large.
    """
    flat, opt_state = carry
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    direction, stepped = optimizer(config).update(gradient, opt_state)
    stepped_flat = jnp.maximum(flat - learning_rate * direction, floor)
    if frozen is not None:
        stepped_flat = jnp.where(frozen, flat, stepped_flat)
    keep = lambda new, old: jnp.where(finite & any_samples, new, old)  # noqa: E731
    return (keep(stepped_flat, flat), jax.tree.map(keep, stepped, opt_state)), norm, finite
