"""What an update's steps say of whole episodes, against simulated ones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.envs.task import NO_LIMIT
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.episodes import EpisodeSteps, episode_metrics, expected_return
from mjxppo.ppo.unknown import UNKNOWN

LIMIT = 200


def simulate(age, steps, hazard, rng):
    """Ages and ends [steps, N] of worlds whose episodes have lasted ``age`` [N] steps; ``hazard`` gives end rates."""
    ages, ends = np.zeros((2, steps, age.size), int)
    for t in range(steps):
        age = age + 1
        ages[t], ends[t] = age, rng.random(age.size) < hazard(age)
        age = np.where((ends[t] > 0) | (age >= LIMIT), 0, age)
    return ages, ends.astype(bool), age


def estimate(ages, reward, ends, weight=None):
    weight = np.ones(ages.shape, "f") if weight is None else weight
    arrays = (jnp.asarray(x) for x in (ages, np.float32(reward), ends, weight))
    return float(expected_return(*arrays, LIMIT, Devices(1)))


def exact(hazard, reward):
    """The expected return, from end rates and rewards by age."""
    age = np.arange(1, LIMIT + 1)
    survives = np.concatenate([[1], np.cumprod(1 - hazard(age))[:-1]])
    return (survives * reward(age)).sum()


HAZARDS = {
    "never": lambda age: 0.0 * age,
    "rarely": lambda age: 0.005 + 0.0 * age,
    "always": lambda age: 1.0 + 0.0 * age,
    "late": lambda age: np.where(age > 120, 0.05, 0.001),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_it_is_the_expected_return_where_rewards_and_ends_depend_on_the_age(name):
    rng = np.random.default_rng(0)
    hazard, reward = HAZARDS[name], lambda age: 1 + age / 50
    _, _, age = simulate(rng.integers(0, LIMIT, 4000), 300, hazard, rng)  # until ages are those of running worlds
    ages, ends, _ = simulate(age, 100, hazard, rng)
    assert estimate(ages, reward(ages), ends) == pytest.approx(exact(hazard, reward), rel=0.02)


def test_after_a_jump_it_is_the_new_policys_and_the_mean_over_ended_episodes_is_not():
    rng = np.random.default_rng(1)
    old, new = (lambda age: 0.05 + 0.0 * age), (lambda age: 0.002 + 0.0 * age)
    _, _, age = simulate(np.zeros(4000, int), 300, old, rng)
    ages, ends, _ = simulate(age, 32, new, rng)
    truth = exact(new, np.ones_like)
    assert estimate(ages, np.ones(ages.shape), ends) == pytest.approx(truth, rel=0.05)
    assert ages[ends].mean() < 0.4 * truth


def test_it_is_known_before_any_episode_has_ended():
    ages = np.broadcast_to(np.arange(1, 17)[:, None], (16, 64))
    assert estimate(ages, 2.0 * np.ones(ages.shape), np.zeros(ages.shape, bool)) == pytest.approx(2 * LIMIT)


def test_steps_that_do_not_count_do_not_matter():
    rng = np.random.default_rng(2)
    ages, ends, _ = simulate(rng.integers(0, LIMIT, 500), 50, HAZARDS["rarely"], rng)
    reward, weight = np.ones(ages.shape), np.ones(ages.shape, "f")
    plain = estimate(ages[:, 250:], reward[:, 250:], ends[:, 250:])
    weight[:, :250], reward[:, :250] = 0, 1e9
    assert estimate(ages, reward, ends, weight) == pytest.approx(plain, rel=1e-5)
    assert estimate(ages, reward, ends, 0 * weight) == UNKNOWN


def test_means_over_ended_episodes_are_exact_where_squares_would_cancel():
    returns = np.float32([[10_000.25, 10_000.5, 9_999.75, 5.0]])
    steps = EpisodeSteps(
        age=jnp.full((1, 4), 100),
        whole=jnp.ones((1, 4), bool),
        episode_return=jnp.asarray(returns),
    )
    no, ended = jnp.zeros((1, 4), bool), jnp.array([[True, True, True, False]])
    metrics = episode_metrics(steps, jnp.full((1, 4), 2.0), no, ended, ~no, LIMIT, Devices(1))
    assert int(metrics["episodes"]) == 3
    assert float(metrics["episode_return_std"]) == pytest.approx(returns[0, :3].std(dtype=np.float64), rel=1e-3)
    assert float(metrics["reward_per_step"]) == 2


def test_without_a_known_limit_it_is_the_mean_over_ended_episodes():
    ages = jnp.asarray(np.tile(np.arange(1, 51), 4)[:, None])
    no = jnp.zeros(ages.shape, bool)
    for ended, expected in ((ages == 50, 50), (no, UNKNOWN)):
        steps = EpisodeSteps(ages, ages > 0, ages.astype(float))
        metrics = episode_metrics(steps, jnp.ones(ages.shape), no, ended, ~no, NO_LIMIT, Devices(1))
        np.testing.assert_allclose(metrics["expected_return"], expected)


def test_a_time_limit_is_no_end_of_the_kind_that_a_policy_brings_about():
    ages = jnp.asarray(np.tile(np.arange(1, LIMIT + 1), 2)[:, None])
    steps = EpisodeSteps(ages, ages > 0, ages.astype(float))
    no = jnp.zeros(ages.shape, bool)
    metrics = episode_metrics(steps, jnp.ones(ages.shape), no, ages == LIMIT, ~no, LIMIT, Devices(1))
    assert float(metrics["expected_return"]) == pytest.approx(LIMIT)
    metrics = episode_metrics(steps, jnp.ones(ages.shape), ages == 100, ages == LIMIT, ~no, LIMIT, Devices(1))
    assert float(metrics["expected_return"]) < 0.8 * LIMIT
