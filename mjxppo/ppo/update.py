"""Learning from one batch: advantages, the critic's targets, gradient steps, and the next step size and KL penalty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.schema import CriticConfig, PpoConfig
from mjxppo.ppo import losses, normalize, schedules
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.episode_returns import episode_returns
from mjxppo.ppo.gae import generalized_advantages
from mjxppo.ppo.gradient import Algorithm, StepMetrics, StepSettings, gradient_steps
from mjxppo.ppo.networks import Params, apply_policy, apply_value, rescale_value_head
from mjxppo.ppo.normalize import EPSILON, RunningMoments
from mjxppo.ppo.rollout import Batch
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.shac.critic import follow_critic, with_target_critic
from mjxppo.ppo.shac.horizon import HorizonDerivative, bound_worlds
from mjxppo.ppo.shac.step import analytic_step
from mjxppo.ppo.state import Learner
from mjxppo.ppo.trpo import trust_region_step
from mjxppo.ppo.unknown import UNKNOWN

Array = jax.Array


def learn(
    algorithm: Algorithm, learner: Learner, batch: Batch, last_obs: Array, key: Array, progress: Progress
) -> tuple[Learner, dict[str, Array]]:
    """One update of the networks from one batch, of which this device's part has arrays [blocks, T, B, ...].

    ``last_obs`` are the observations after the last step, [blocks, B, obs_size]; ``key`` is the same on all devices.
    Returns the learner after the update (observation moments unchanged), and metrics, each [].
    """
    config = algorithm.ppo
    predicting = with_target_critic(learner)
    value, advantage, target = estimate_advantages(algorithm, predicting, batch, last_obs)
    weight = batch.valid.astype(value.dtype)
    outliers = jnp.zeros_like(weight)
    if config.normalize_returns:  # else there are no units
        target, advantage, outliers = _bound_outliers(learner.return_moments, target, advantage, weight)
    moments_of = _moments_over_batch(weight, algorithm.devices)
    target_mean, target_var = moments_of(target)
    error_mean, error_var = moments_of(target - value)
    mean, var = moments_of(advantage)
    flipped = (advantage > 0) != (advantage > mean)  # by a normalisation
    if algorithm.reinforce is not None and algorithm.reinforce.baseline == "constant":
        advantage = advantage - mean
    if config.advantage_normalization == "batch":
        advantage = (advantage - mean) * lax.rsqrt(var + EPSILON)
    params, return_moments = _move_return_moments(config, learner, target_mean, target_var)
    target = normalize.standardize(return_moments, target)
    value = normalize.standardize(return_moments, value)

    learning_rate = schedules.learning_rate(config, learner.learning_rate, progress.budget_used)
    settings = _step_settings(algorithm, learner, learning_rate, progress)
    given = batch.reference, batch.mask
    samples = losses.Samples(batch.obs, batch.u, batch.log_prob, advantage, target, value, weight, *given)
    if learner.target_critic is not None:
        rescaled, _ = _move_return_moments(config, predicting, target_mean, target_var)
        learner = replace(learner, target_critic=rescaled["params"]["critic"])
    learner = replace(learner, params=params, return_moments=return_moments)
    learner, metrics = take_steps(algorithm, learner, samples, key, settings, batch.derivative)

    kl = _divergence(algorithm, learner.params, samples)
    metrics |= {
        "approx_kl": kl,
        "learning_rate": settings.learning_rate,
        "explained_variance": 1 - error_var / jnp.maximum(target_var, EPSILON),
        "value_target_mean": target_mean,
        "value_mean": target_mean - error_mean,
        "advantage_sign_flips": moments_of(flipped.astype(advantage.dtype))[0],
        "target_outliers": algorithm.devices.sum(outliers.sum()),
    }
    if algorithm.reinforce is not None and algorithm.critic is None:  # there are no values
        metrics |= dict.fromkeys(("value_loss", "value_mean", "explained_variance"), jnp.float32(UNKNOWN))
    if algorithm.trpo is not None:
        metrics["learning_rate"] = jnp.float32(UNKNOWN)
    if not algorithm.imitate:  # a teacher has drawn a part of the samples
        metrics["entropy"] = moments_of(algorithm.network.head.squash_log_det(batch.u) - batch.log_prob)[0]
    learning_rate, kl_penalty = _adapt(algorithm, learner, learning_rate, kl, progress)
    return replace(learner, learning_rate=learning_rate, kl_penalty=kl_penalty), metrics


def only_where_samples(
    any_samples: Array, learned: tuple[Learner, dict[str, Array]], before: Learner
) -> tuple[Learner, dict[str, Array]]:
    """The results of an update; of one without samples the learner ``before``, and ``UNKNOWN``, or counts of 0."""
    learner, metrics = learned
    kept = jax.tree.map(partial(jnp.where, any_samples), learner, before)
    nothing = {name: UNKNOWN if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in metrics.items()}
    return kept, {name: jnp.where(any_samples, x, nothing[name]) for name, x in metrics.items()}


class Estimates(NamedTuple):
    """Numbers of each step, arrays [blocks, T, B], in units of the reward."""

    value: Array
    """The critic's value of the observation; 0 where no critic is used."""
    advantage: Array
    target: Array
    """What the critic has to predict."""


def estimate_advantages(algorithm: Algorithm, learner: Learner, batch: Batch, last_obs: Array) -> Estimates:
    """Advantages and the critic's targets; the arguments are those of ``learn``."""
    config, reinforce = algorithm.ppo, algorithm.reinforce
    if reinforce is not None:
        with jax.named_scope("returns"):
            weighting, to_go = episode_returns(reinforce, batch, config.gamma)
        if reinforce.baseline != "value":
            return Estimates(jnp.zeros_like(to_go), weighting, to_go)
    obs = jnp.concatenate([batch.obs, last_obs[:, None]], axis=1)
    value_of = partial(apply_value, algorithm.network, learner.params)
    with jax.named_scope("values"):
        # Block by block, the working set stays in a CPU's cache.
        value = lax.map(value_of, obs) if algorithm.block_by_block else value_of(obs)
    value, final_value = (_in_reward_units(learner.return_moments, x) for x in (value, batch.final_value))
    if reinforce is not None:
        return Estimates(value[:, :-1], jnp.where(batch.valid, weighting - value[:, :-1], 0), to_go)

    def per_block(*arrays: Array) -> Array:
        # A GPU takes 16 steps with one kernel; on a CPU that makes a slow program.
        unroll = 4 if algorithm.block_by_block else 16
        return generalized_advantages(*arrays, gamma=config.gamma, gae_lambda=config.gae_lambda, unroll=unroll)

    with jax.named_scope("gae"):
        ends = batch.terminated, batch.truncated
        advantage = jax.vmap(per_block)(batch.reward, value, *ends, final_value, batch.valid)
    return Estimates(value[:, :-1], advantage, advantage + value[:, :-1])


def _in_reward_units(moments: RunningMoments, value: Array) -> Array:
    """Values in the critic's (normalised) units, converted to units of the reward."""
    return value * jnp.sqrt(moments.var + EPSILON) + moments.mean


def _bound_outliers(
    moments: RunningMoments, target: Array, advantage: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """The critic's targets and the advantages without outliers, and which samples were some, each [blocks, T, B].

    One broken reward would otherwise set the units of the critic for a thousand updates, and those of the advantages
    for one. ``moments`` are those of the returns, see ``normalize.OUTLIER``; samples of ``weight`` 0 do not count.
    """
    bounded = normalize.bound_sample(moments, target)
    around_zero = replace(moments, mean=jnp.zeros_like(moments.mean))
    outliers = (bounded != target) & (weight > 0)
    return bounded, normalize.bound_sample(around_zero, advantage), outliers


def take_steps(
    algorithm: Algorithm,
    learner: Learner,
    samples: losses.Samples,
    key: Array,
    settings: StepSettings,
    derivative: HorizonDerivative | None = None,
) -> tuple[Learner, dict[str, Array]]:
    """The learner after all steps that an update takes, and their metrics, each []; arguments as ``gradient_steps``.

    ``derivative`` is the batch's.
    """
    config = algorithm.ppo
    extra: dict[str, Array] = {}
    params, opt_state = learner.params, learner.opt_state
    if algorithm.critic is not None or algorithm.reinforce is not None:  # the policy's step is the policy's alone
        config = replace(config, value_coef=0.0)
    if algorithm.trpo is not None:
        with jax.named_scope("trust_region_step"):
            params, steps, extra = trust_region_step(algorithm, params, samples, settings)
    elif derivative is not None:
        with jax.named_scope("analytic_step"):
            bounded = bound_worlds(derivative, algorithm.devices)
            stepped = analytic_step(algorithm, opt_state, params, samples, bounded, settings)
            params, opt_state, steps, extra = stepped
    else:
        with jax.named_scope("gradient_steps"):
            own = algorithm._replace(ppo=config)
            params, opt_state, steps = gradient_steps(own, opt_state, params, samples, key, settings)
    metrics = _step_metrics(steps) | extra
    learner = replace(learner, params=params, opt_state=opt_state)
    if algorithm.critic is None:
        return learner, metrics
    with jax.named_scope("critic_steps"):
        learner, critic_steps = _fit_critic(algorithm, algorithm.critic, learner, samples, key, settings)
    if algorithm.shac is not None:
        learner = follow_critic(learner, algorithm.shac.target_decay)
    of_critic = _step_metrics(critic_steps)
    return learner, metrics | {
        "value_loss": of_critic["value_loss"],
        "critic_gradient_steps": of_critic["gradient_steps"],
        "skipped_gradient_steps": metrics["skipped_gradient_steps"] + of_critic["skipped_gradient_steps"],
    }


def _fit_critic(
    algorithm: Algorithm,
    critic: CriticConfig,
    learner: Learner,
    samples: losses.Samples,
    key: Array,
    settings: StepSettings,
) -> tuple[Learner, StepMetrics]:
    """The learner after the critic's own epochs, and their steps' metrics; the policy stays as it is."""
    own = replace(
        algorithm.ppo,
        num_epochs=critic.epochs,
        num_minibatches=critic.num_minibatches,
        minibatch_size=0,
        advantage_normalization="none",
        max_kl=0.0,
    )
    own_settings = settings._replace(learning_rate=jnp.float32(critic.learning_rate), policy_learns=jnp.array(False))
    of_values = algorithm._replace(ppo=own, critic_only=True)
    start = learner.critic_opt_state, learner.params
    params, opt_state, steps = gradient_steps(of_values, *start, samples, jax.random.fold_in(key, 1), own_settings)
    return replace(learner, params=params, critic_opt_state=opt_state), steps


def _divergence(algorithm: Algorithm, params: Params, samples: losses.Samples) -> Array:
    """KL(policy that acted || policy after the last gradient step), estimated from all samples of the batch, [].

    0 when imitating, because the teacher has drawn a part of the samples.
    """
    if algorithm.imitate:
        return jnp.float32(0)

    def of_block(block: losses.Samples) -> Array:
        outputs = apply_policy(algorithm.network, params, block.obs, block.mask)
        log_ratio = algorithm.network.head.log_prob(block.u, outputs) - block.log_prob
        estimate = losses.divergence_estimate(jnp.where(block.valid > 0, log_ratio, 0))
        return jnp.stack([(estimate * block.valid).sum(), block.valid.sum()])

    with jax.named_scope("kl"):
        # Block by block, the working set stays in a CPU's cache.
        sums = lax.map(of_block, samples).sum(0) if algorithm.block_by_block else of_block(samples)
        total, count = algorithm.devices.sum(sums)
    return total / jnp.maximum(count, 1)


def _moments_over_batch(weight: Array, devices: Devices) -> Callable[[Array], tuple[Array, Array]]:
    """The function that gives mean and variance, each [], of an array over the whole batch, weighted by ``weight``."""
    samples_in_batch = jnp.maximum(devices.sum(weight.sum()), 1)

    def moments_of(x: Array) -> tuple[Array, Array]:
        mean = devices.sum((x * weight).sum()) / samples_in_batch
        return mean, devices.sum((jnp.square(x - mean) * weight).sum()) / samples_in_batch

    return moments_of


def _move_return_moments(config: PpoConfig, learner: Learner, mean: Array, var: Array) -> tuple[Params, RunningMoments]:
    """The moments of the returns, moved towards the targets' mean and variance, and parameters that fit them.

    The value head is rescaled so that the values it stands for stay the same (PopArt). Without
    ``config.normalize_returns`` nothing moves.
    """
    params, old = learner.params, learner.return_moments
    if not config.normalize_returns:
        return params, old
    new = normalize.decay_moments(old, mean, var, decay=0.99)
    old_std, new_std = jnp.sqrt(old.var + EPSILON), jnp.sqrt(new.var + EPSILON)
    return rescale_value_head(params, old.mean, old_std, new.mean, new_std), new


def _step_settings(algorithm: Algorithm, learner: Learner, learning_rate: Array, progress: Progress) -> StepSettings:
    """Numbers that the update's gradient steps share; ``learning_rate`` is without the warm-up's factor."""
    init = algorithm.init
    if init.step_size_warmup:
        learning_rate = learning_rate * schedules.warmup_factor(init, progress)
    return StepSettings(
        learning_rate=learning_rate,
        min_log_std=schedules.log_std_floor(algorithm.policy, progress.budget_used),
        policy_learns=schedules.policy_learns(init, progress) if init.critic_warmup else None,
        kl_penalty=learner.kl_penalty,
        reference_coef=schedules.anchor_coef(init, progress),
    )


def _step_metrics(steps: StepMetrics) -> dict[str, Array]:
    """Means over an update's gradient steps, each []."""
    means = {name: steps.mean(terms) for name, terms in vars(steps.terms).items() if terms is not None}
    mean_norm = steps.mean(steps.grad_norm)
    return means | {
        "grad_norm": mean_norm,
        "grad_norm_variance": steps.mean(jnp.square(steps.grad_norm - mean_norm)),
        "gradient_steps": steps.taken.sum().astype(jnp.int32),
        "skipped_gradient_steps": steps.skipped.sum(),
    }


def _adapt(
    algorithm: Algorithm, learner: Learner, learning_rate: Array, kl: Array, progress: Progress
) -> tuple[Array, Array]:
    """Step size and KL penalty of the next update, each []; both stay while a warm-up lasts."""
    config, init = algorithm.ppo, algorithm.init
    adapted = (
        schedules.adapt_learning_rate(config, learning_rate, kl, progress.budget_used),
        schedules.adapt_kl_penalty(config, learner.kl_penalty, kl),
    )
    if init.critic_warmup or init.step_size_warmup:
        wait = schedules.warming_up(init, progress)
        present = (learning_rate, learner.kl_penalty)
        adapted = jax.tree.map(lambda now, then: jnp.where(wait, now, then), present, adapted)
    return adapted
