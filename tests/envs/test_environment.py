"""Episode bookkeeping, time limits, auto-reset, and worlds gone non-finite: on a toy task, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo import envs
from mjxppo.envs import Environment
from mjxppo.envs.batch import split_each
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError

N = 5


def start(env, n=N, seed=0):
    return env.reset(jax.random.split(jax.random.key(seed), n))


def test_keys_split_one_by_one_are_those_of_jax():
    keys = jax.random.split(jax.random.key(1), N)
    pairs = jax.vmap(jax.random.split)(keys)
    for i, ours in enumerate(split_each(keys)):
        np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(pairs[:, i]))


def test_time_limit_truncates_and_resets_to_a_fresh_state():
    env = Environment(PointMass(max_episode_steps=4))
    state = start(env)
    seen = [np.asarray(state.obs)]
    step = jax.jit(env.step)
    for t in range(1, 5):
        state = step(state, jnp.zeros((N, 2)))
        assert np.asarray(state.truncated).tolist() == [t == 4] * N
        assert np.asarray(state.episode_length).tolist() == [t] * N
    first_starts = seen[0]
    np.testing.assert_allclose(state.final_obs, first_starts, rtol=1e-6)  # the true last observation: it never moved
    assert not np.isclose(np.asarray(state.obs)[:, :2], first_starts[:, :2]).any(), "a new start, not the first again"
    second_starts = np.asarray(state.obs)
    for _ in range(4):
        state = step(state, jnp.zeros((N, 2)))
    np.testing.assert_allclose(state.final_obs, second_starts, rtol=1e-6)
    assert not np.isclose(np.asarray(state.obs)[:, :2], second_starts[:, :2]).any()


def test_return_and_length_are_those_of_the_episode_that_ended_and_then_start_anew():
    env = Environment(PointMass(max_episode_steps=3))
    state, step = start(env), jax.jit(env.step)
    rewards = []
    for _ in range(3):
        state = step(state, jnp.full((N, 2), 0.1))
        rewards.append(np.asarray(state.reward))
    np.testing.assert_allclose(state.episode_return, sum(rewards), rtol=1e-6)
    state = step(state, jnp.full((N, 2), 0.1))
    np.testing.assert_allclose(state.episode_return, state.reward, rtol=1e-6)
    assert np.asarray(state.episode_length).tolist() == [1] * N


def test_termination_is_not_truncation():
    env = Environment(PointMass(max_episode_steps=100))
    state = start(env)
    state = state.replace(worlds={"x": jnp.array([[2.9, 0.0]] * N)})
    state = jax.jit(env.step)(state, jnp.array([[1.0, 0.0]] * 2 + [[-1.0, 0.0]] * 3))
    assert np.asarray(state.terminated).tolist() == [True, True, False, False, False]
    assert not np.asarray(state.truncated).any()


def test_termination_at_the_time_limit_counts_as_termination():
    env = Environment(PointMass(max_episode_steps=1))
    state = start(env).replace(worlds={"x": jnp.array([[2.9, 0.0]] * N)})
    state = env.step(state, jnp.ones((N, 2)))
    assert np.asarray(state.terminated).all() and not np.asarray(state.truncated).any()


@pytest.mark.parametrize("where", ["worlds", "action"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 2e10])
def test_a_nonfinite_world_is_reset_and_no_other_world_notices(where, poison):
    env = Environment(PointMass(max_episode_steps=100))
    clean = start(env)
    action = jnp.full((N, 2), 0.1)
    poisoned, poisoned_action = clean, action
    if where == "worlds":
        poisoned = clean.replace(worlds={"x": clean.worlds["x"].at[2, 0].set(poison)})
    else:
        poisoned_action = action.at[2, 0].set(poison)
    step = jax.jit(env.step)
    expected, actual = step(clean, action), step(poisoned, poisoned_action)
    if where == "action" and poison > 0:
        assert not np.asarray(actual.nonfinite).any()  # the actuator clips it
        return
    assert np.asarray(actual.nonfinite).tolist() == [False, False, True, False, False]
    assert bool(actual.truncated[2]) and float(actual.reward[2]) == 0
    for leaf in jax.tree.leaves(actual):
        assert leaf.dtype != jnp.float32 or np.isfinite(leaf).all()
    keep = np.array([0, 1, 3, 4])
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a)[keep], np.asarray(b)[keep])


def test_resets_depend_on_the_worlds_own_key_only():
    env = Environment(PointMass(max_episode_steps=3))
    keys = jax.random.split(jax.random.key(3), N)
    step = jax.jit(env.step)
    together, alone = env.reset(keys), env.reset(keys[3:4])
    for _ in range(7):
        together = step(together, jnp.full((N, 2), 0.2))
        alone = step(alone, jnp.full((1, 2), 0.2))
    np.testing.assert_array_equal(together.obs[3], alone.obs[0])


def test_raw_and_typed_keys_are_the_same():
    env = Environment(PointMass())
    keys = jax.random.split(jax.random.key(1), N)
    np.testing.assert_array_equal(env.reset(keys).obs, env.reset(jax.random.key_data(keys)).obs)


def test_staggered_clocks_spread_the_time_limits_and_depend_on_the_global_index():
    env = Environment(PointMass(max_episode_steps=50))
    n = 400
    state = start(env, n)
    staggered = env.stagger(state, jax.random.key(0), jnp.arange(n))
    part = env.stagger(state, jax.random.key(0), jnp.arange(100, 100 + n))
    np.testing.assert_array_equal(staggered.clock_offset[100:], part.clock_offset[:-100])
    step, ends = jax.jit(env.step), []
    state = staggered
    for _ in range(50):
        state = step(state, jnp.zeros((n, 2)))
        ends.append(int(state.truncated.sum()))
        whole = np.asarray(state.truncated & (state.clock_offset == 0))
        assert (np.asarray(state.episode_length)[whole] == 50).all()
    assert sum(ends) >= n and max(ends) < n / 5


@pytest.mark.parametrize("name", ["halfcheetah", "HalfCheetah-v5", "half-cheetah", "HALF_CHEETAH"])
def test_a_task_is_found_by_all_its_usual_names(name):
    assert envs.make(name).name == "half_cheetah"


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_registered_under_its_own_name(name):
    task = TASKS[name].task
    assert (task.name, task.gym_id) == (name, TASKS[name].gym_id)


def test_an_environment_has_the_sizes_of_its_task_and_is_made_once():
    task = PointMass(max_episode_steps=7)
    env = envs.make(task)
    assert env.task is task and envs.make(env) is env
    assert (env.name, env.obs_size, env.action_size, env.max_episode_steps) == ("point_mass", 3, 2, 7)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("hoper", {}, "did you mean hopper"),
        ("hopper", {"ctrl_cost": 1.0}, "did you mean ctrl_cost_weight"),
        ("hopper", {"max_episode_steps": 0}, "must be from 1 to"),
        ("hopper", {"reset_noise_scale": -1.0}, "must not be negative"),
        ("hopper", {"xml_file": "nowhere.xml"}, "there is no file"),
        ("brax:nothing", {}, "Brax has no environment"),
    ],
)
def test_bad_names_and_options_are_refused_with_one_line_and_a_remedy(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        envs.make(name, **options)
    assert "\n" not in str(error.value)


def test_far_from_the_origin_the_reward_stays_exact():
    env = envs.make("half_cheetah")
    state = start(env, 2)
    near = state.worlds
    far = near.replace(qpos=near.qpos.at[:, 0].add(8000.0))
    action = jnp.full((2, 6), 0.5)
    step = jax.jit(env.step)
    np.testing.assert_array_equal(step(state, action).reward, step(state.replace(worlds=far), action).reward)


@pytest.mark.parametrize("name", ["hopper", "half_cheetah", "walker2d"])
def test_a_reset_knows_the_rewards_terms_without_tracing_the_physics(name, monkeypatch):
    """Tracing a step takes about a second, at every start of the program."""
    env = envs.make(name)
    keys = jax.random.split(jax.random.key(0), 4)
    terms = env.reset(keys).reward_terms
    stepped = jax.eval_shape(env.step, env.reset(keys), jnp.zeros((4, env.action_size)))
    assert set(terms) == set(stepped.reward_terms)
    monkeypatch.setattr(env.task.physics, "step", None)
    assert env.reset(keys).reward_terms.keys() == terms.keys()
