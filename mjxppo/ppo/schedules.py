"""Settings that change during training: step size, KL penalty, log-std floor, weights of reference policies."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mjxppo.config.schema import Config, DistillConfig, InitConfig, PolicyConfig, PpoConfig

Array = jax.Array

LEARNING_RATE_RANGE = (1e-5, 1e-2)
"""Limits of an adaptive learning rate."""
_LEARNING_RATE_FACTOR = 1.5
_PENALTY_RANGE = (1e-4, 1e4)


class Progress(NamedTuple):
    """Progress of training when an update begins."""

    budget_used: Array
    """Share of the step budget used, [], in [0, 1]."""
    updates_done: Array
    """Updates done, [] int32."""


def fields_over_the_budget(config: Config) -> list[str]:
    """The fields whose schedules run over the step budget, and stretch where a resumed run is given another one."""
    running = {
        "ppo.learning_rate_schedule": config.ppo.learning_rate_schedule in ("linear", "adaptive_kl_linear"),
        "policy.final_min_log_std": config.policy.final_min_log_std is not None,
        "distill.until": config.distill.teacher is not None and config.distill.share != config.distill.final_share,
    }
    return [name for name, runs in running.items() if runs]


def warmup_factor(init: InitConfig, progress: Progress) -> Array:
    """Factor of the step size during the warm-up, [], in (0, 1].

    It rises linearly over the ``step_size_warmup`` updates after those that train the critic alone, from
    1 / ``step_size_warmup`` in the first of them to 1 in the last.
    """
    since = progress.updates_done - init.critic_warmup
    rising = (since + 1) / max(init.step_size_warmup, 1)
    return jnp.where(since < 0, 1.0, jnp.minimum(rising, 1.0))


def policy_learns(init: InitConfig, progress: Progress) -> Array:
    """Whether an update may change the policy, and not only the critic, [] bool."""
    return progress.updates_done >= init.critic_warmup


def anchor_coef(init: InitConfig, progress: Progress) -> Array:
    """Coefficient of the KL divergence from the anchor, []: constant, or halved every ``anchor_half_life`` updates."""
    if not init.anchor_half_life:
        return jnp.float32(init.anchor_coef)
    return init.anchor_coef * jnp.exp2(-progress.updates_done / init.anchor_half_life)


def warming_up(init: InitConfig, progress: Progress) -> Array:
    """Whether a warm-up still limits the policy's changes, [] bool.

    The KL divergence is then small for that reason, and must not adapt the step size.
    """
    return progress.updates_done < init.critic_warmup + init.step_size_warmup


def teacher_share(config: DistillConfig, budget_used: Array | float) -> Array:
    """Share of the steps at which the teacher acts in an update that begins at ``budget_used``, []."""
    done = jnp.clip(budget_used / max(config.until, 1e-9), 0, 1)
    return jnp.float32(config.share + (config.final_share - config.share) * done)


def learning_rate(config: PpoConfig, current: Array, budget_used: Array) -> Array:
    """The step size of an update that begins at ``budget_used``, []."""
    if config.learning_rate_schedule == "linear":
        return config.learning_rate * jnp.maximum(1 - budget_used, 0)
    return current


def adapt_learning_rate(config: PpoConfig, current: Array, kl: Array, budget_used: Array) -> Array:
    """The next update's step size: smaller after too large a KL divergence, larger after too small a one.

    The rule of rsl_rl and RL-Games, with a target that may fall linearly to 0 over the run.
    """
    if config.learning_rate_schedule not in ("adaptive_kl", "adaptive_kl_linear"):
        return current
    target = jnp.float32(config.target_kl)
    if config.learning_rate_schedule == "adaptive_kl_linear":
        target = target * jnp.maximum(1 - budget_used, 0)
    factor = jnp.where(kl > 2 * target, 1 / _LEARNING_RATE_FACTOR, jnp.where(kl < target / 2, _LEARNING_RATE_FACTOR, 1))
    return jnp.clip(current * factor, *LEARNING_RATE_RANGE)


def adapt_kl_penalty(config: PpoConfig, current: Array, kl: Array) -> Array:
    """The next update's KL penalty (Schulman et al. 2017, section 4: double or halve it around the target)."""
    if config.loss != "kl_penalty":
        return current
    factor = jnp.where(kl > 1.5 * config.target_kl, 2.0, jnp.where(kl < config.target_kl / 1.5, 0.5, 1.0))
    return jnp.clip(current * factor, *_PENALTY_RANGE)


def log_std_floor(config: PolicyConfig, budget_used: Array) -> Array:
    """The floor of a state-independent log-std in an update that begins at ``budget_used``, [].

    It is ``min_log_std`` in the first half of a run, for exploration, and falls linearly in the second half.
    """
    final = config.min_log_std if config.final_min_log_std is None else config.final_min_log_std
    return config.min_log_std + (final - config.min_log_std) * jnp.clip(2 * budget_used - 1, 0, 1)
