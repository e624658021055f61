"""Swimmer-v5 and Reacher-v5: each step, start and option is Gymnasium's."""

from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import interpreted
from scipy import stats

import mjxppo
from mjxppo import envs
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
NUM_STEPS = 300


def theirs(task, **options):
    with without_model_warnings():
        return gymnasium.make(TASKS[task].gym_id, **options)


def started(env, count):
    """A state at a reset."""
    return env.reset(jax.vmap(jax.random.key)(jnp.arange(count)))


def recorded_steps(gym_env):
    """What Gymnasium's environment does: (state before, action, observation, reward, terminated, info) by column."""
    data, rows, rng = gym_env.unwrapped.data, [], np.random.default_rng(0)
    gym_env.reset(seed=0)
    for _ in range(NUM_STEPS):
        # Beyond the range too, where the actuators clip, but not the cost.
        action = rng.uniform(-1.3, 1.3, gym_env.action_space.shape[0])
        before = data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy()
        obs, reward, terminated, truncated, info = gym_env.step(action)
        rows.append((before, action, obs, reward, terminated, info))
        if truncated:
            gym_env.reset()
    return zip(*rows, strict=True)


OPTIONS = {
    "swimmer": {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.3, "frame_skip": 2},
    "reacher": {"reward_dist_weight": 3.0, "reward_control_weight": 0.1, "frame_skip": 1},
}


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("task", OPTIONS)
def test_each_step_equals_gymnasiums(task, changed):
    options = OPTIONS[task] if changed else {}
    env = envs.make(task, **options)
    states, actions, obs, rewards, terminated, infos = recorded_steps(theirs(task, **options))
    with jax.enable_x64(True):
        qpos, qvel, warmstart = (jnp.asarray(np.array(x)) for x in zip(*states, strict=True))
        start = started(env, NUM_STEPS).worlds.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart)
        worlds, terms, ended = interpreted(env.task.advance, start, np.array(actions))
        ours, seen = env.task.step_info(worlds, terms), env.task.observe(worlds)
        names = env.task.reward_term_names(worlds, jnp.asarray(np.array(actions)))
    np.testing.assert_allclose(seen, np.array(obs), atol=1e-7)
    np.testing.assert_allclose(sum(terms.values()), rewards, atol=1e-7)
    assert not np.any(ended) and not any(terminated) and sorted(names) == sorted(terms)
    assert ours.keys() == infos[0].keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, [info[name] for info in infos], atol=1e-7, err_msg=name)
    assert env.task.physics.name == "spatial" and np.ptp(rewards) > 0.1


@pytest.mark.parametrize("task", OPTIONS)
def test_it_starts_and_ends_as_gymnasiums(task):
    env, gym_env = envs.make(task), theirs(task)
    state = started(env, 2000)
    starts = np.array([gym_env.reset(seed=seed)[0] for seed in range(2000)])
    for i in range(env.obs_size):
        assert stats.ks_2samp(np.asarray(state.obs)[:, i], starts[:, i]).pvalue > 1e-4
    assert env.max_episode_steps == gym_env.spec.max_episode_steps
    assert env.task.reset_info(state.worlds).keys() == gym_env.reset(seed=0)[1].keys()


def test_far_from_the_origin_a_swimmers_reward_stays_exact():
    env = envs.make("swimmer")
    worlds = started(env, 2).worlds
    far = worlds.replace(qpos=worlds.qpos.at[:, :2].add(jnp.array([8000.0, -3000.0])))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), worlds, far)
    moved, terms, _ = interpreted(env.task.advance, both, np.full((4, 2), 0.5, np.float32))
    for values in terms.values():
        np.testing.assert_array_equal(values[:2], values[2:])
    np.testing.assert_allclose(moved.qpos[2:, :2] - moved.qpos[:2, :2], [[8000, -3000]] * 2, atol=1e-3)


def test_a_swimmer_whose_place_matters_is_simulated_where_it_is(tmp_path):
    text = (ASSETS / "swimmer.xml").read_text()
    path = tmp_path / "tethered.xml"
    path.write_text(text.replace('name="slider2"', 'name="slider2" stiffness="5"'))
    env, tethered = envs.make("swimmer"), envs.make("swimmer", xml_file=path)
    worlds = started(env, 1).worlds
    far = worlds.replace(qpos=worlds.qpos.at[:, 1].add(10.0))
    action = np.zeros((1, 2), np.float32)
    free, held = (interpreted(one.task.advance, far, action)[0].velocity[0, 1] for one in (env, tethered))
    assert held < free - 0.01


@pytest.mark.parametrize(
    ("task", "edit", "message"),
    [
        ("swimmer", ('axis="0 1 0" name="slider2"', 'axis="0 0 1" name="slider2"'), "'slider2', must slide along y"),
        ("reacher", ('name="fingertip" pos="0.11 0 0"', 'name="hand" pos="0.11 0 0"'), "the bodies fingertip and targ"),
        (
            "reacher",
            ('<joint axis="0 0 1" limited="false"', '<joint axis="0 1 0" limited="false"'),
            "must turn about z",
        ),
    ],
)
def test_what_they_cannot_be_is_refused_in_one_line(task, edit, message, tmp_path):
    text = (ASSETS / f"{task}.xml").read_text()
    assert edit[0] in text
    path = tmp_path / "robot.xml"
    path.write_text(text.replace(*edit))
    with pytest.raises(UserError, match=message) as refused:
        envs.make(task, xml_file=path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("env_options.xml_file: ")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("task", OPTIONS)
def test_they_are_trained_and_evaluated(task, tmp_path):
    fields = {"total_env_steps": 2048, "ppo": {"num_envs": 64, "block_size": 32, "rollout_length": 8}}
    fields["ppo"] |= {"num_minibatches": 4}
    run = mjxppo.train_policy(task, run_dir=tmp_path / "run", log={"tensorboard": False}, **fields)
    result = run.evaluate(episodes=2)
    assert result["engine"] == "gymnasium" and np.isfinite(result["mean"])
