"""What the networks see: stacks of observations and actions over episode ends, and what only the simulation knows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Crosswind, PointMass

from mjxppo.config.randomize import RandomizeConfig, Spread
from mjxppo.config.schema import Config
from mjxppo.envs import Environment, build
from mjxppo.envs.half_cheetah import HalfCheetah, HalfCheetahOptions
from mjxppo.envs.observed import ObservedTask
from mjxppo.envs.randomize.task import RandomizedTask
from mjxppo.errors import UserError

N, OBS, A = 6, 3, 2


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def actions(steps, seed=1):
    return jax.random.uniform(jax.random.key(seed), (steps, N, A), minval=-1, maxval=1)


def hidden_parts(env, state):
    """The privileged part of the observations, by name."""
    parts = np.split(
        np.asarray(state.obs)[:, -env.privileged_size :], np.cumsum([*env.task.privileged.values()])[:-1], 1
    )
    return dict(zip(env.task.privileged, parts, strict=True))


def test_an_environment_to_which_nothing_is_added_is_left_alone():
    env = Environment(PointMass())
    assert build.environment(Config(env="point_mass"), env) is env


@pytest.mark.parametrize("history", [1, 2, 4])
def test_stacks_are_those_of_a_loop_that_keeps_each_worlds_past(history):
    noisy = RandomizeConfig(observation_noise=0.1, max_action_delay=2)
    randomized = RandomizedTask(PointMass(max_episode_steps=7), noisy)
    inner, outer = Environment(randomized), Environment(ObservedTask(randomized, history, privileged=False))
    step_inner, step_outer = jax.jit(inner.step), jax.jit(outer.step)
    a, b = jax.jit(inner.reset)(keys(N)), jax.jit(outer.reset)(keys(N))
    a, b = (dataclasses.replace(state, clock_offset=jnp.arange(N, dtype=jnp.int32)) for state in (a, b))
    past: list[list[np.ndarray]] = [[] for _ in range(N)]  # the latest first: a, o, a, o, ...

    def stack(world, obs):
        start = past[world][-1] if past[world] else obs
        parts = [obs, *past[world]]
        while len(parts) < 2 * history - 1:
            parts += [np.zeros(A), start]
        return np.concatenate(parts[: 2 * history - 1])

    before = np.asarray(a.obs)
    for t in range(20):
        np.testing.assert_array_equal(b.obs, np.float32([stack(i, before[i]) for i in range(N)]))
        action = actions(20)[t]
        a, b = step_inner(a, action), step_outer(b, action)
        for i in range(N):
            past[i] = [np.asarray(action[i]), before[i], *past[i]]
        last = np.float32([stack(i, np.asarray(a.final_obs)[i]) for i in range(N)])
        np.testing.assert_array_equal(b.final_obs, last, err_msg="the true last observation, before any reset")
        np.testing.assert_array_equal(b.truncated, a.truncated)
        np.testing.assert_array_equal(b.reward, a.reward)
        for i in np.flatnonzero(a.done):
            past[i] = []
        before = np.asarray(a.obs)
    assert np.asarray(b.episode_length).max() < 20, "episodes ended"


def test_a_shorter_stack_is_the_beginning_of_a_longer_one():
    short, long = (Environment(ObservedTask(PointMass(), k, privileged=False)) for k in (2, 5))
    a, b = short.reset(keys(N)), long.reset(keys(N))
    for action in actions(4):
        a, b = short.step(a, action), long.step(b, action)
        np.testing.assert_array_equal(a.obs, b.obs[:, : short.obs_size])


def test_a_world_gone_nonfinite_forgets_and_the_others_do_not_notice():
    env = Environment(ObservedTask(PointMass(), 3, privileged=False))
    state = env.step(env.reset(keys(N)), actions(1)[0])
    broken = dataclasses.replace(
        state, worlds=state.worlds.replace(inner={"x": state.worlds.inner["x"].at[2].set(jnp.nan)})
    )
    healthy, after = env.step(state, actions(1)[0]), env.step(broken, actions(1)[0])
    assert bool(after.nonfinite[2]) and np.isfinite(after.obs).all() and np.isfinite(after.final_obs).all()
    np.testing.assert_array_equal(after.obs[2, OBS : OBS + A], 0)
    others = np.arange(N) != 2
    np.testing.assert_array_equal(after.obs[others], healthy.obs[others])


def test_what_is_hidden_follows_the_stack_and_changes_with_the_episode():
    env = Environment(ObservedTask(Crosswind(max_episode_steps=3), 2, privileged=True))
    assert (env.obs_size, env.privileged_size, env.task.privileged) == (2 * OBS + A + 2, 2, {"wind": 2})
    state = first = env.reset(keys(N))
    for action in actions(3):
        np.testing.assert_array_equal(state.obs[:, -2:], 5 * state.worlds.inner["wind"])
        np.testing.assert_array_equal(state.final_obs[:, -2:], first.obs[:, -2:])
        state = env.step(state, action)
    np.testing.assert_array_equal(state.final_obs[:, -2:], first.obs[:, -2:])
    assert (np.asarray(state.obs[:, -2:]) != np.asarray(first.obs[:, -2:])).all()


def test_nothing_that_is_hidden_is_refused_with_the_remedy():
    message = "policy.privileged: point_mass has no privileged observations, unless randomize varies"
    with pytest.raises(UserError, match=message):
        ObservedTask(PointMass(), 1, True)


def test_a_randomised_world_knows_the_truth_behind_its_sensors_and_what_becomes_of_actions():
    config = RandomizeConfig(
        observation_noise=0.1,
        observation_bias=Spread("uniform", -1.0, 1.0, operation="add"),
        max_action_delay=2,
        drop_action=0.3,
    )
    env = Environment(ObservedTask(RandomizedTask(PointMass(), config), 1, True))
    assert env.task.privileged == {
        "observation": 3,
        "action_delay": 1,
        "past_actions": 4,
        "action_in_effect": 2,
    }
    state = env.step(env.reset(keys(N)), actions(1)[0])
    world = state.worlds.inner
    x = np.asarray(world.inner["x"])
    known = hidden_parts(env, state)
    np.testing.assert_allclose(known["observation"], np.concatenate([x, x[:, :1] * 100 + 50], 1), rtol=1e-6)
    assert (known["observation"] != np.asarray(state.obs)[:, :OBS]).all()
    np.testing.assert_array_equal(known["action_delay"][:, 0], np.asarray(world.variation.action_delay) / 2)
    np.testing.assert_array_equal(known["past_actions"][:, :2], actions(1)[0])
    np.testing.assert_array_equal(known["action_in_effect"], world.action_in_effect)


def test_the_parameters_of_a_robot_are_told_in_units_of_the_models_own():
    config = RandomizeConfig(
        mass=Spread("uniform", 0.5, 2.0, each=True),
        friction=Spread("log_uniform", 0.5, 2.0),
        strength=Spread("uniform", 0.8, 1.2),
        damping=Spread("uniform", 0.5, 1.5, operation="add", each=True),
        slope=Spread("uniform", -5.0, 5.0, operation="add"),
    )
    task = HalfCheetah(HalfCheetahOptions(), "planar")
    randomized = RandomizedTask(task, config)
    env = Environment(ObservedTask(randomized, 1, True))
    assert env.task.privileged == {"mass": 7, "friction": 1, "strength": 1, "damping": 6, "gravity": 2}
    state = jax.jit(env.reset)(keys(200))
    known = hidden_parts(env, state)
    own = {name: np.asarray(x) for name, x in randomized.variation_in_use(state.worlds.inner).parameters.items()}
    np.testing.assert_allclose(known["mass"], own["body_mass"][:, 1:] / task.model.body_mass[1:], rtol=1e-5)
    np.testing.assert_allclose(known["friction"], own["geom_friction"][:, :1, 0] / 0.4, rtol=1e-5)
    assert 0.8 <= known["strength"].min() < 0.85 and 1.15 < known["strength"].max() <= 1.2
    np.testing.assert_allclose(known["damping"], own["dof_damping"][:, 3:] / task.model.dof_damping[3:], rtol=1e-5)
    np.testing.assert_allclose(known["gravity"], own["opt.gravity"][:, [0, 2]] / 9.81, rtol=1e-5)


def test_variations_are_redrawn_and_the_curriculum_is_measured_through_it():
    bias = Spread("uniform", 0.5, 1.0, operation="add")
    config = RandomizeConfig(observation_bias=bias, curriculum_return=-1e6, curriculum_step=0.25)
    env = Environment(ObservedTask(RandomizedTask(PointMass(max_episode_steps=1), config), 2, True))
    state = env.step(env.reset(keys(4)), jnp.zeros((4, 2)))
    assert np.all(state.worlds.inner.next_in_use)
    prepared = env.prepare(state)
    assert not np.any(prepared.worlds.inner.next_in_use)
    assert np.all(np.asarray(prepared.worlds.inner.next_variation.observation_bias) > 0)
    np.testing.assert_array_equal(prepared.obs, state.obs)
    np.testing.assert_array_equal(env.metrics(prepared)["randomization_extent"], 0.25)
