"""Ant-v5's rules and options are Gymnasium's; whole steps are compared in test_gymnasium_parity.py."""

from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import interpreted

import mjxppo
from mjxppo import envs
from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings


def theirs(**options):
    with without_model_warnings():
        return gymnasium.make("Ant-v5", **options)


def started(env, count):
    """Worlds at a reset."""
    return env.reset(jax.vmap(jax.random.key)(jnp.arange(count)))


def test_an_ant_is_healthy_exactly_where_gymnasiums_is():
    gym_env, env = theirs(), envs.make("ant")
    gym_env.reset(seed=0)
    heights = [0.2, 0.2 - 1e-9, 1.0, 1.0 + 1e-9, 0.6, -1.0, np.nan]
    qpos = np.tile(env.task.model.qpos0, (len(heights) + 1, 1))
    qpos[:-1, 2] = heights
    qvel = np.zeros((len(qpos), 14))
    qvel[-1, 3] = np.inf
    expected = []
    for own_qpos, own_qvel in zip(qpos, qvel, strict=True):
        gym_env.unwrapped.data.qpos[:], gym_env.unwrapped.data.qvel[:] = own_qpos, own_qvel
        expected.append(bool(gym_env.unwrapped.is_healthy))
    with jax.enable_x64(True):
        worlds = started(env, len(qpos)).worlds.replace(qpos=jnp.asarray(qpos), qvel=jnp.asarray(qvel))
        terms, terminated = env.task._reward_and_end(worlds, jnp.zeros((len(qpos), 8)))
        names = env.task.reward_term_names(worlds, jnp.zeros((len(qpos), 8)))
    assert terminated.tolist() == [not healthy for healthy in expected]
    assert terms["reward_survive"].tolist() == [float(healthy) for healthy in expected]
    assert expected == [True, False, True, False, True, False, False, False]
    assert sorted(names) == sorted(terms)


OPTIONS = {
    "ctrl_cost_weight": 0.1,
    "forward_reward_weight": 2.0,
    "healthy_reward": 3.0,
    "frame_skip": 1,
    "contact_cost_weight": 0.01,
    "contact_force_range": (-5.0, 20.0),
    "healthy_z_range": (0.45, 0.7),
    "terminate_when_unhealthy": False,
    "include_cfrc_ext_in_observation": False,
}


def recorded_steps(gym_env, count):
    """What Gymnasium's environment does: (state before, action, observation, reward, terminated, info) by column.

    Of 3000 steps the first ``count``, and those that ended an episode.
    """
    data, rows, rng = gym_env.unwrapped.data, [], np.random.default_rng(0)
    gym_env.reset(seed=0)
    action = np.zeros(8)
    for step in range(3000):
        action = 0.7 * action + 0.6 * rng.uniform(-1, 1, 8)
        lag = data.xpos[1, :2] - data.qpos[:2]
        before = data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), lag
        obs, reward, terminated, _, info = gym_env.step(action)
        if step < count or terminated:
            rows.append((before, action, obs, reward, terminated, info))
        if terminated or step % 1000 == 999:
            gym_env.reset()
            action = np.zeros(8)
    return zip(*rows, strict=True)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
def test_each_step_equals_gymnasiums(options):
    env = envs.make("ant", **options)
    states, actions, obs, rewards, terminated, infos = recorded_steps(theirs(**options), 100)
    with jax.enable_x64(True):
        arrays = (jnp.asarray(np.array(x)) for x in zip(*states, strict=True))
        named = dict(zip(("qpos", "qvel", "qacc_warmstart", "lag"), arrays, strict=True))
        start = started(env, len(obs)).worlds.replace(**named)
        worlds, terms, ended = interpreted(env.task.advance, start, np.array(actions))
        ours = env.task.step_info(worlds, terms)
        seen = env.task.observe(worlds)
    # Gymnasium's solver stops at a tolerance of 1e-8, which is what remains of a difference.
    np.testing.assert_allclose(seen, obs, atol=1e-5)
    np.testing.assert_allclose(sum(terms.values()), rewards, atol=1e-5)
    assert ended.tolist() == list(terminated)
    assert ours.keys() == infos[0].keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, [info[name] for info in infos], atol=1e-5, err_msg=name)
    # The test has to have seen what it claims to compare.
    assert np.abs(actions).max() > 1 and np.ptp(terms["reward_contact"]) > 0
    if options:
        assert env.obs_size == 27 and {0.0, 3.0} == set(terms["reward_survive"].tolist())
    else:
        forces = np.abs(np.array(obs)[:, 27:])
        assert env.obs_size == 105 and (forces == 1).any() and ((forces > 0) & (forces < 1)).any()
        assert sum(terminated) > 2


def test_far_from_the_origin_the_reward_stays_exact():
    env = envs.make("ant", frame_skip=1)
    worlds = started(env, 2).worlds
    far = worlds.replace(qpos=worlds.qpos.at[:, :2].add(jnp.array([8000.0, -3000.0])))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), worlds, far)
    moved, terms, _ = interpreted(env.task.advance, both, np.full((4, 8), 0.5, np.float32))
    for values in terms.values():
        np.testing.assert_array_equal(values[:2], values[2:])
    np.testing.assert_allclose(moved.qpos[2:, :2] - moved.qpos[:2, :2], [[8000, -3000]] * 2, atol=1e-3)


ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
BEFORE = '<worldbody><body name="stone"><geom size="0.1" contype="0"/></body>'


@pytest.mark.parametrize(
    ("options", "edit", "message"),
    [
        ({"xml_file": "hopper.xml"}, None, "the first joint, 'rootx', is not free; the first body must be the torso"),
        ({}, ("<worldbody>", BEFORE), "the first body, 'stone', has no joint; the first body must be the torso"),
        ({}, ('contype="1" conaffinity="1"', 'contype="0" conaffinity="0"'), "has no ground: the joint 'root' lets"),
        ({"healthy_z_range": (1.0, 2.0)}, None, "healthy_z_range: every episode would end at its first step"),
        ({"reset_noise_scale": -1.0}, None, "env_options.reset_noise_scale: must not be negative"),
    ],
)
def test_what_an_ant_cannot_be_is_refused_in_one_line(options, edit, message, tmp_path):
    if edit:
        text = (ASSETS / "ant.xml").read_text()
        text = text.replace('<geom conaffinity="1" condim="3"', '<geom contype="1" conaffinity="1" condim="3"')
        assert edit[0] in text
        path = tmp_path / "robot.xml"
        path.write_text(text.replace(edit[0], edit[1]))
        options = options | {"xml_file": str(path)}
    with pytest.raises(UserError, match=message) as refused:
        envs.make("ant", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_an_ant_is_trained_and_evaluated(tmp_path):
    fields = {"total_env_steps": 2048, "ppo": {"num_envs": 64, "block_size": 32, "rollout_length": 8}}
    fields["ppo"] |= {"num_minibatches": 4}
    run = mjxppo.train_policy("ant", run_dir=tmp_path / "run", log={"tensorboard": False}, **fields)
    result = run.evaluate(episodes=2)
    assert result["engine"] == "gymnasium" and np.isfinite(result["mean"])
    assert run.policy(np.zeros(105, np.float32)).shape == (8,)
