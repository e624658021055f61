"""The quadruped's steps are those of its environment in C MuJoCo, and its rewards those of the formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import interpreted
from scipy import stats

from mjxppo import envs
from mjxppo.envs.foreign.adapted import make_one
from mjxppo.envs.quadruped import COMMANDS, torso_motion
from mjxppo.errors import UserError

OPTIONS = {
    "frame_skip": 3,
    "lin_vel_x_range": (0.5, 2.0),
    "standing_share": 0.4,
    "command_steps": 7,
    "tracking_sigma": 0.5,
    "tracking_lin_vel_weight": 2.0,
    "tracking_ang_vel_weight": 1.5,
    "lin_vel_z_weight": 0.3,
    "ang_vel_xy_weight": 0.2,
    "orientation_weight": 0.4,
    "action_rate_weight": 0.1,
    "pose_weight": 0.7,
    "healthy_z_range": (0.2, 0.3),
    "max_tilt": 0.3,
    "reset_noise_scale": 0.2,
}


def recorded_steps(env, count):
    """What the environment in C MuJoCo does under random actions: a list of rows, see the names below."""
    inner, rows, rng = env.unwrapped, [], np.random.default_rng(0)
    env.reset(seed=0)
    action = np.zeros(12)
    for _ in range(count):
        action = 0.7 * action + 0.5 * rng.uniform(-1, 1, 12)
        data = inner.data
        before = {
            "qpos": data.qpos.copy(),
            "qvel": data.qvel.copy(),
            "qacc_warmstart": data.qacc_warmstart.copy(),
            "command": inner.command.copy(),
            "last_action": inner._last_action.copy(),
        }
        obs, reward, terminated, truncated, info = env.step(action)
        rows.append((before, action, obs, reward, terminated, info))
        if terminated or truncated:
            env.reset()
            action = np.zeros(12)
    return zip(*rows, strict=True)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
def test_each_step_equals_that_in_c_mujoco(options):
    env, gym_env = envs.make("quadruped", **options), make_one("mjxppo/Quadruped-v0", options)
    befores, actions, obs, rewards, terminated, infos = recorded_steps(gym_env, 200)
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(np.array([before[name] for before in befores])) for name in befores[0]}
        start = env.reset(jax.random.split(jax.random.key(0), 200)).worlds.replace(**arrays, key=None)
        worlds, terms, ended = interpreted(env.task._move, start, np.array(actions))
        # A command that is drawn after the step is another one here.
        commands = np.array([[info[f"command_{axis}"] for axis in COMMANDS] for info in infos])
        worlds = worlds.replace(command=jnp.asarray(commands))
        ours, seen = env.task.step_info(worlds, terms), env.task.observe(worlds)
    # The wrapper that scales actions has float32 numbers.
    np.testing.assert_allclose(seen, obs, atol=1e-5)
    np.testing.assert_allclose(sum(terms.values()), rewards, atol=1e-5)
    assert ended.tolist() == list(terminated)
    assert ours.keys() == infos[0].keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, [info[name] for info in infos], atol=1e-5, err_msg=name)
    # The test has to have seen what it claims to compare.
    assert np.abs(actions).max() > 1 and sum(terminated) > 0
    assert all(np.ptp(values) > 0 for values in terms.values())


def test_a_reset_is_that_in_c_mujoco():
    env, gym_env = envs.make("quadruped"), make_one("mjxppo/Quadruped-v0", {})
    state = jax.device_get(jax.jit(env.reset)(jax.vmap(jax.random.key)(jnp.arange(2000))))
    resets = [gym_env.reset(seed=seed)[0] for seed in range(2000)]
    for i, (ours, theirs) in enumerate(zip(state.obs.T, np.array(resets).T, strict=True)):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4, f"observation {i}"
    assert (env.obs_size, env.action_size, env.max_episode_steps) == (48, 12, gym_env.spec.max_episode_steps)
    assert env.step_duration == pytest.approx(gym_env.unwrapped.dt)


def test_commands_are_drawn_from_their_ranges_and_change_after_command_steps():
    env = envs.make("quadruped", standing_share=0.25, command_steps=3)
    keys = jax.random.split(jax.random.key(1), 4000)
    first, second, again = (np.asarray(env.task._draw_command(keys, jnp.full(4000, n))) for n in (0, 1, 1))
    np.testing.assert_array_equal(second, again)
    stands = (first == 0).all(-1)
    assert 0.22 < stands.mean() < 0.28 and not ((first == 0).any(-1) & ~stands).any()
    low, high = env.task.options.command_ranges
    for axis in range(3):
        spread = (first[~stands, axis] - low[axis]) / (high[axis] - low[axis])
        assert stats.kstest(spread, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(first[~stands, axis], second[~stands, axis])[0, 1]) < 0.06
    worlds = env.task.initial(keys[:8])
    np.testing.assert_array_equal(worlds.command, first[:8])
    with_time = lambda time: worlds.replace(time=jnp.full(8, time))  # noqa: E731
    np.testing.assert_array_equal(next_command(env.task, with_time(1)), first[:8])
    np.testing.assert_array_equal(next_command(env.task, with_time(3)), second[:8])


def next_command(task, moved):
    """The commands after a step that led to ``moved`` worlds."""
    task._move = lambda worlds, action: (worlds, {}, None)
    return task.advance(moved, None)[0].command


def test_the_velocities_are_those_of_the_torsos_frame():
    """A robot that is turned by 90 degrees to the left and moves along the world's y moves forward."""
    worlds = envs.make("quadruped").task.initial(jax.random.split(jax.random.key(0), 1))
    half = np.sqrt(0.5)
    qpos = worlds.qpos.at[0, 3:7].set(jnp.array([half, 0, 0, half]) * 2)  # MuJoCo takes quaternions of any length
    qvel = worlds.qvel.at[0, :6].set(jnp.array([0.0, 0.7, 0.1, 0.2, 0.3, 0.4]))
    up, linear, angular = torso_motion(worlds.replace(qpos=qpos, qvel=qvel))
    np.testing.assert_allclose(up, [[0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(linear, [[0.7, 0, 0.1]], atol=1e-6)
    np.testing.assert_allclose(angular, [[0.2, 0.3, 0.4]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lin_vel_x_range": (1.0, 0.0)}, "env_options.lin_vel_x_range: its first number must not be above"),
        ({"standing_share": 1.5}, "env_options.standing_share: must be from 0 to 1, not 1.5"),
        ({"command_steps": 0}, "env_options.command_steps: must be at least 1, not 0"),
        ({"tracking_sigma": 0.0}, "env_options.tracking_sigma: must be positive, not 0"),
        ({"healthy_z_range": (1.0, 2.0)}, "env_options.healthy_z_range: every episode would end at its first step"),
        ({"xml_file": "hopper.xml"}, "is not free; the first body must be the torso"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as refused:
        envs.make("quadruped", **options)
    assert "\n" not in str(refused.value)


def test_another_robot_with_a_free_torso_can_be_commanded_and_starts_at_qpos0_without_a_keyframe():
    env, gym_env = envs.make("quadruped", xml_file="ant.xml"), make_one("mjxppo/Quadruped-v0", {"xml_file": "ant.xml"})
    state = env.reset(jax.random.split(jax.random.key(0), 2))
    assert state.obs.shape[1:] == gym_env.observation_space.shape == (12 + 8 + 8 + 8,)
    np.testing.assert_allclose(state.worlds.qpos[:, :7], np.tile(env.task.model.qpos0[:7], (2, 1)), atol=1e-6)
    np.testing.assert_array_equal(gym_env.unwrapped._home, env.task.home)


def test_a_command_can_be_fixed():
    gym_env = make_one("mjxppo/Quadruped-v0", {"command_steps": 2})
    gym_env.reset(seed=0)
    gym_env.unwrapped.fixed_command = np.array([0.5, 0.1, -0.2])
    for _ in range(5):
        obs, _, _, _, info = gym_env.step(np.zeros(12))
    np.testing.assert_array_equal(obs[9:12], [0.5, 0.1, -0.2])
    assert info["command_ang_vel_z"] == -0.2
    gym_env.unwrapped.fixed_command = None
    assert (gym_env.step(np.zeros(12))[0][9:12] != [0.5, 0.1, -0.2]).all()
