"""Step sizes, penalties and the exploration floor in the course of training."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.config.schema import InitConfig, PolicyConfig, PpoConfig
from mjxppo.ppo import schedules
from mjxppo.ppo.schedules import Progress


def at(updates_done, budget_used=0.5):
    return Progress(jnp.float32(budget_used), jnp.int32(updates_done))


@pytest.mark.parametrize(("progress", "expected"), [(0.0, -1.2), (0.5, -1.2), (0.75, -1.6), (1.0, -2.0), (1.1, -2.0)])
def test_the_floor_of_the_std_falls_in_the_second_half_only(progress, expected):
    config = PolicyConfig(std="state_independent", min_log_std=-1.2, final_min_log_std=-2.0)
    np.testing.assert_allclose(schedules.log_std_floor(config, jnp.float32(progress)), expected, rtol=1e-6)


def test_the_floor_stays_unless_told_to_move():
    config = PolicyConfig(std="state_independent", min_log_std=-1.2)
    np.testing.assert_allclose(schedules.log_std_floor(config, jnp.float32(1.0)), -1.2, rtol=1e-6)


def test_a_linear_step_size_ends_at_zero():
    config = PpoConfig(learning_rate=1e-3, learning_rate_schedule="linear")
    for progress, expected in ((0.0, 1e-3), (0.25, 7.5e-4), (1.0, 0.0), (1.5, 0.0)):
        rate = schedules.learning_rate(config, jnp.float32(1e-3), jnp.float32(progress))
        np.testing.assert_allclose(rate, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(("kl", "factor"), [(0.05, 1 / 1.5), (0.03, 1.0), (0.011, 1.0), (0.009, 1.5)])
def test_an_adaptive_step_size_follows_the_kl_divergence(kl, factor):
    config = PpoConfig(learning_rate_schedule="adaptive_kl", target_kl=0.02)
    adapted = schedules.adapt_learning_rate(config, jnp.float32(1e-3), jnp.float32(kl), jnp.float32(0.5))
    np.testing.assert_allclose(adapted, 1e-3 * factor, rtol=1e-5)


def test_a_falling_target_makes_the_same_kl_too_large():
    config = PpoConfig(learning_rate_schedule="adaptive_kl_linear", target_kl=0.02)
    adapted = [
        float(schedules.adapt_learning_rate(config, jnp.float32(1e-3), jnp.float32(0.015), jnp.float32(progress)))
        for progress in (0.0, 0.9)
    ]
    np.testing.assert_allclose(adapted, [1e-3, 1e-3 / 1.5], rtol=1e-5)


@pytest.mark.parametrize(("kl", "factor"), [(0.04, 2.0), (0.02, 1.0), (0.01, 0.5)])
def test_the_kl_penalty_doubles_and_halves_around_its_target(kl, factor):
    config = PpoConfig(loss="kl_penalty", target_kl=0.02)
    np.testing.assert_allclose(schedules.adapt_kl_penalty(config, jnp.float32(1.0), jnp.float32(kl)), factor)


@pytest.mark.parametrize(
    ("update", "share", "moves"),
    [
        (0, 1.0, False),
        (1, 1.0, False),
        (2, 0.25, True),
        (3, 0.5, True),
        (4, 0.75, True),
        (5, 1.0, True),
        (9, 1.0, True),
    ],
)
def test_the_step_size_warms_up_once_the_policy_moves(update, share, moves):
    config = InitConfig(critic_warmup=2, step_size_warmup=4)
    np.testing.assert_allclose(schedules.warmup_factor(config, at(update)), share)
    assert bool(schedules.policy_learns(config, at(update))) == moves


def test_without_warm_ups_nothing_is_held_back():
    assert float(schedules.warmup_factor(InitConfig(), at(0))) == 1
    assert bool(schedules.policy_learns(InitConfig(), at(0)))


@pytest.mark.parametrize(("half_life", "expected"), [(0.0, 0.8), (10.0, 0.1)])
def test_the_anchor_halves_again_and_again_or_stays(half_life, expected):
    config = InitConfig(anchor_coef=0.8, anchor_half_life=half_life)
    np.testing.assert_allclose(schedules.anchor_coef(config, at(0)), 0.8, rtol=1e-6)
    np.testing.assert_allclose(schedules.anchor_coef(config, at(30)), expected, rtol=1e-6)


@pytest.mark.parametrize(("update", "expected"), [(0, True), (2, True), (3, False)])
def test_what_follows_the_kl_divergence_waits_for_both_warm_ups(update, expected):
    assert bool(schedules.warming_up(InitConfig(critic_warmup=1, step_size_warmup=2), at(update))) == expected
