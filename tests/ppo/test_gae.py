"""Generalised advantage estimation against hand-computed numbers and a float64 loop."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.ppo.gae import generalized_advantages


def advantages(reward, value, terminated, truncated, final_value, valid=None, *, gamma, gae_lambda):
    """Calls the function on one world's lists."""
    column = lambda x, dtype: jnp.asarray(np.array(x, dtype)[:, None])  # noqa: E731
    valid = [True] * len(reward) if valid is None else valid
    result = generalized_advantages(
        column(reward, np.float32),
        column(value, np.float32),
        column(terminated, bool),
        column(truncated, bool),
        column(final_value, np.float32),
        column(valid, bool),
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return np.asarray(result)[:, 0]


def reference(reward, value, terminated, truncated, final_value, valid, gamma, gae_lambda):
    """The definition, step by step in float64, for one world."""
    result, following = np.zeros(len(reward)), 0.0
    for t in reversed(range(len(reward))):
        if not valid[t]:
            following = 0.0
            continue
        if terminated[t]:
            next_value, following = 0.0, 0.0
        elif truncated[t]:
            next_value, following = final_value[t], 0.0
        else:
            next_value = value[t + 1]
        following = reward[t] + gamma * next_value - value[t] + gamma * gae_lambda * following
        result[t] = following
    return result


NO = [False, False, False]


def test_hand_computed_without_ends():
    # deltas: 1 + .5*4 - 2 = 1;  2 + .5*6 - 4 = 1;  3 + .5*8 - 6 = 1;  lambda .5 -> factor .25
    result = advantages([1, 2, 3], [2, 4, 6, 8], NO, NO, [0, 0, 0], gamma=0.5, gae_lambda=0.5)
    np.testing.assert_allclose(result, [1 + 0.25 * 1.25, 1.25, 1])


def test_hand_computed_termination_bootstraps_zero_and_cuts():
    # step 1 terminates: delta 2 + 0 - 4 = -2; step 0: 1 + .5*4 - 2 = 1, plus .25 * -2
    result = advantages([1, 2, 3], [2, 4, 6, 8], [False, True, False], NO, [9, 9, 9], gamma=0.5, gae_lambda=0.5)
    np.testing.assert_allclose(result, [0.5, -2, 1])


def test_hand_computed_truncation_bootstraps_the_true_last_observation_and_cuts():
    # step 1 is truncated with V(final) = 10: delta 2 + .5*10 - 4 = 3, whatever value[2] of the next episode is
    result = advantages([1, 2, 3], [2, 4, 6, 8], NO, [False, True, False], [0, 10, 0], gamma=0.5, gae_lambda=0.5)
    np.testing.assert_allclose(result, [1.75, 3, 1])


def test_lambda_one_gives_discounted_returns_minus_value_and_zero_gives_td_errors():
    reward, value = [1.0, 2.0, 3.0], [0.5, 0.25, 0.125, 4.0]
    returns = [1 + 0.9 * (2 + 0.9 * (3 + 0.9 * 4)), 2 + 0.9 * (3 + 0.9 * 4), 3 + 0.9 * 4]
    result = advantages(reward, value, NO, NO, [0] * 3, gamma=0.9, gae_lambda=1.0)
    np.testing.assert_allclose(result, np.array(returns) - value[:3], rtol=1e-6)
    result = advantages(reward, value, NO, NO, [0] * 3, gamma=0.9, gae_lambda=0.0)
    np.testing.assert_allclose(result, [1 + 0.9 * 0.25 - 0.5, 2 + 0.9 * 0.125 - 0.25, 3 + 0.9 * 4 - 0.125], rtol=1e-6)


def test_episode_ends_in_every_place_match_the_float64_definition():
    steps, rng = 4, np.random.default_rng(0)
    kinds = ("none", "terminated", "truncated", "invalid")
    cases = list(itertools.product(kinds, repeat=steps))
    shape = (steps, len(cases))
    is_kind = lambda kind: np.array([[k == kind for k in case] for case in cases]).T  # noqa: E731
    reward, final_value = rng.normal(size=shape), rng.normal(size=shape) * 5
    value = rng.normal(size=(steps + 1, len(cases))) * 5
    terminated, truncated, valid = is_kind("terminated"), is_kind("truncated"), ~is_kind("invalid")
    result = generalized_advantages(
        *(jnp.asarray(x, jnp.float32) for x in (reward, value)),
        jnp.asarray(terminated),
        jnp.asarray(truncated),
        jnp.asarray(final_value, jnp.float32),
        jnp.asarray(valid),
        gamma=0.97,
        gae_lambda=0.9,
    )
    for i in range(len(cases)):
        column = [x[:, i] for x in (reward, value, terminated, truncated, final_value, valid)]
        np.testing.assert_allclose(result[:, i], reference(*column, 0.97, 0.9), atol=1e-5, err_msg=str(cases[i]))


@pytest.mark.parametrize("gamma, gae_lambda", [(0.99, 0.95), (1.0, 1.0), (0.0, 0.5)])
def test_long_rollouts_match_the_float64_definition(gamma, gae_lambda):
    steps, worlds, rng = 200, 16, np.random.default_rng(1)
    reward, final_value = rng.normal(size=(2, steps, worlds))
    value = rng.normal(size=(steps + 1, worlds))
    ends = rng.random((3, steps, worlds))
    terminated, truncated, valid = ends[0] < 0.05, (ends[1] < 0.05) & (ends[0] >= 0.05), ends[2] > 0.02
    result = generalized_advantages(
        *(jnp.asarray(x, jnp.float32) for x in (reward, value)),
        jnp.asarray(terminated),
        jnp.asarray(truncated),
        jnp.asarray(final_value, jnp.float32),
        jnp.asarray(valid),
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    for i in range(worlds):
        column = [x[:, i] for x in (reward, value, terminated, truncated, final_value, valid)]
        np.testing.assert_allclose(result[:, i], reference(*column, gamma, gae_lambda), atol=2e-4)
