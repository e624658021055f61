"""Rollouts: the numbers stored are those that acted, ends are bootstrapped rightly, and the step budget is exact."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.envs import Environment
from mjxppo.ppo import distribution, networks, normalize
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.episodes import episode_metrics
from mjxppo.ppo.rollout import BehaviorPolicy, rollout

N, T = 8, 12


def make(max_episode_steps=5, **options):
    env = Environment(PointMass(max_episode_steps))
    config = PpoConfig(num_envs=N, block_size=N, rollout_length=T, **options)
    network = networks.build(env.action_size, PolicyConfig(hidden_sizes=(16,)))
    params = networks.init_params(network, env.obs_size, jax.random.key(1))
    moments = normalize.RunningMoments(jnp.array([0.1, 0.0, 50.0]), jnp.array([0.5, 1.0, 3000.0]), jnp.float32(100))
    state = env.reset(jax.random.split(jax.random.key(2), N))
    return env, config, BehaviorPolicy(network, params, moments), state


def run(env, config, policy, state, budget=10**6, indices=None, key=None, reference=None):
    indices = jnp.arange(N) if indices is None else indices
    key = jax.random.key(5) if key is None else key
    roll = partial(rollout, env, policy, config=config, reference=reference)
    call = jax.jit(lambda state, indices, budget: roll(state, indices, key, budget))
    return call(state, indices, jnp.int32(budget))


def test_stored_log_probs_are_those_of_the_stored_actions():
    env, config, policy, state = make()
    _, batch, _, _ = run(env, config, policy, state)
    mean, log_std = policy.network.apply(policy.params, batch.obs, method="policy")
    np.testing.assert_allclose(batch.log_prob, distribution.gaussian_log_prob(batch.u, mean, log_std), atol=1e-4)


def test_noise_is_standard_normal_and_independent_over_time_and_worlds():
    env, config, policy, state = make()
    _, batch, _, _ = run(env, config, policy, state)
    mean, log_std = policy.network.apply(policy.params, batch.obs, method="policy")
    noise = np.asarray((batch.u - mean) / jnp.exp(log_std))
    assert len(np.unique(noise.round(5))) == noise.size
    assert abs(noise.mean()) < 0.2 and 0.8 < noise.std() < 1.2


def test_a_truncated_step_stores_the_value_of_the_true_last_observation():
    env, config, policy, state = make(max_episode_steps=5)
    _, batch, _, _ = run(env, config, policy, state)
    truncated = np.asarray(batch.truncated)
    assert (truncated.sum(1) == np.where(np.arange(1, T + 1) % 5 == 0, N, 0)).all()
    # By hand: replay the stored actions and look at where each episode really ended.
    replay, x = state, np.asarray(state.worlds["x"], np.float64)
    for t in range(T):
        replay = env.step(replay, jnp.tanh(batch.u[t]))
        if truncated[t].any():
            x = x + 0.3 * np.tanh(np.asarray(batch.u[t], np.float64))
            last = np.concatenate([x, x[:, :1] * 100 + 50], axis=-1).astype(np.float32)
            seen = normalize.normalize_obs(policy.obs_moments, jnp.asarray(last))
            expected = policy.network.apply(policy.params, seen, method="value")
            np.testing.assert_allclose(batch.final_value[t], expected, atol=1e-3)
            fresh = normalize.normalize_obs(policy.obs_moments, replay.obs)
            assert not np.allclose(expected, policy.network.apply(policy.params, fresh, method="value"), atol=1e-3)
            x = np.asarray(replay.worlds["x"], np.float64)
        else:
            x = x + 0.3 * np.tanh(np.asarray(batch.u[t], np.float64))
            np.testing.assert_array_equal(batch.final_value[t], 0)


@pytest.mark.parametrize(("budget", "teacher_share"), [(10**6, None), (5 * N + 3, 0.4)])
def test_a_rollout_without_branches_takes_the_same_steps(budget, teacher_share):
    env, config, policy, state = make()
    reference = None
    if teacher_share:
        policy = policy._replace(teacher_share=jnp.float32(teacher_share))
        reference = lambda state: (state.obs[:, :2], jnp.full((N, 2), -2.0))  # noqa: E731
    straight = Environment(env.task, platform="gpu")
    assert env.branches != straight.branches, "one is built for a CPU, the other for a GPU"
    worlds, batch, last_obs, stats = run(env, config, policy, state, budget, reference=reference)
    others = run(straight, config, policy, state, budget, reference=reference)
    keys = [jax.random.key_data(one.key) for one in (worlds, others[0])]
    np.testing.assert_array_equal(*keys)
    of_worlds = worlds.replace(key=0), others[0].replace(key=0)
    assert bool((batch.terminated | batch.truncated).any()) and bool(batch.truncated.any())
    expected, got = (of_worlds[0], batch, last_obs, stats), (of_worlds[1], *others[1:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), expected, got)


def select(mask, new, old):
    def pick(new, old):
        return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, new, old)


@pytest.mark.parametrize("budget", [0, 1, N, N + 3, 5 * N + 2, N * T - 1, N * T])
def test_exactly_the_budgeted_steps_are_taken_and_worlds_left_out_stand_still(budget):
    env, config, policy, state = make()
    after, batch, last_obs, stats = run(env, config, policy, state, budget)
    _, full, _, _ = run(env, config, policy, state)
    assert int(stats.steps) == budget == int(batch.valid.sum())
    taken = np.arange(T)[:, None] * N + np.arange(N) < budget
    np.testing.assert_array_equal(batch.valid, taken)
    for name in ("u", "reward", "terminated", "truncated"):
        ours, theirs = np.asarray(getattr(batch, name)), np.asarray(getattr(full, name))
        np.testing.assert_array_equal(ours[taken], theirs[taken], err_msg=name)
    steps_of_world = taken.sum(0)
    reference = state
    for t in range(T):
        stepped = env.step(reference, jnp.tanh(full.u[t]))
        reference = select(jnp.asarray(steps_of_world > t), stepped, reference)
    np.testing.assert_allclose(after.worlds["x"], reference.worlds["x"], atol=1e-5)
    seen = normalize.normalize_obs(policy.obs_moments, after.obs)
    np.testing.assert_allclose(last_obs, seen, atol=1e-6)


def test_random_numbers_belong_to_the_worlds_global_index():
    env, config, policy, state = make()
    _, together, _, _ = run(env, config, policy, state)
    half = jax.tree.map(lambda x: x[N // 2 :], state)
    _, apart, _, _ = run(env, config, policy, half, indices=jnp.arange(N // 2, N))
    # Not to the bit: a matrix product's rounding may depend on its batch size, which is why blocks are fixed.
    np.testing.assert_allclose(together.u[:, N // 2 :], apart.u, atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 2e10])
@pytest.mark.parametrize("where", ["worlds", "obs"])
def test_a_nonfinite_world_is_masked_counted_and_changes_no_other(where, poison):
    env, config, policy, state = make()
    poisoned = state.replace(obs=state.obs.at[3, 1].set(poison))
    if where == "worlds":
        poisoned = state.replace(worlds={"x": state.worlds["x"].at[3].set(poison)})
    _, clean, _, _ = run(env, config, policy, state)
    _, batch, last_obs, stats = run(env, config, policy, poisoned)
    assert int(stats.nonfinite) == 1 and not bool(batch.valid[0, 3])
    assert int(stats.steps) == N * T
    for leaf in jax.tree.leaves((batch, last_obs, stats)):
        assert np.isfinite(leaf).all()
    keep = np.arange(N) != 3
    for name in ("obs", "u", "log_prob", "reward", "truncated", "final_value"):
        np.testing.assert_array_equal(getattr(batch, name)[:, keep], getattr(clean, name)[:, keep], err_msg=name)


def test_statistics_count_whole_episodes_only():
    env, config, policy, state = make(max_episode_steps=5)
    ahead = state.replace(clock_offset=jnp.array([3] * 4 + [0] * 4, jnp.int32))
    _, batch, _, _ = run(env, config, policy, ahead)
    metrics = episode_metrics(
        batch.episode, batch.reward, batch.terminated, batch.truncated, batch.valid, 5, Devices(1)
    )
    # Ends at steps 2, 7, 12 (the first cut short) for four worlds, at 5 and 10 for the others.
    assert int(metrics["episodes"]) == 4 * 2 + 4 * 2
    assert float(metrics["episode_length"]) == 5


def test_observation_sums_are_those_of_the_observations_acted_on():
    env, config, policy, state = make()
    _, batch, _, stats = run(env, config, policy, state)
    np.testing.assert_allclose(stats.obs_sum, np.asarray(batch.obs).sum((0, 1)), rtol=1e-4, atol=1e-3)


def test_an_outlier_counts_and_enters_the_sums_bounded():
    env, config, policy, state = make()
    policy = policy._replace(obs_moments=policy.obs_moments.replace(count=jnp.float32(1e4)))
    _, _, _, clean = run(env, config, policy, state)
    _, batch, _, stats = run(env, config, policy, state.replace(obs=state.obs.at[3, 1].set(1e6)))
    assert (int(clean.outliers), int(stats.outliers), int(stats.nonfinite)) == (0, 1, 0)
    assert bool(batch.valid.all())
    assert abs(float(stats.obs_sum[1])) < 100 + abs(float(clean.obs_sum[1])) + 10
    assert float(stats.obs_sum_of_squares[1]) < 100**2 + float(clean.obs_sum_of_squares[1]) + 100
