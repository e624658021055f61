"""Humanoid-v5 and HumanoidStandup-v5: observations, rewards, ends and options are Gymnasium's."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from interpreted import interpreted

from mjxppo import envs
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings

NUM_STEPS = 24
"""Steps compared."""
OPTIONS = {
    "humanoid": {
        "frame_skip": 2,
        "forward_reward_weight": 2.0,
        "ctrl_cost_weight": 0.3,
        "contact_cost_weight": 1e-4,
        "contact_cost_range": (0.1, 2.0),
        "healthy_reward": 3.0,
        "healthy_z_range": (1.2, 1.38),
        "terminate_when_unhealthy": False,
        "include_cinert_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "humanoid_standup": {
        "frame_skip": 2,
        "ctrl_cost_weight": 0.3,
        "impact_cost_weight": 1e-4,
        "impact_cost_range": (0.1, 2.0),
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
    },
}


def gymnasiums(task, **options):
    """Gymnasium's environment, with a solver that converges: its file asks for 50 steps of PGS, which do not."""
    with without_model_warnings():
        made = gymnasium.make(TASKS[task].gym_id, **options).unwrapped
    option = made.model.opt
    option.solver, option.iterations, option.tolerance = mujoco.mjtSolver.mjSOL_NEWTON, 100, 0
    return made


def mass_center(gym_env):
    """The centre of mass relative to the root along x and y, [2]."""
    model, data = gym_env.model, gym_env.data
    return (model.body_mass @ data.xipos / model.body_mass.sum())[:2] - data.qpos[:2]


def recorded_steps(gym_env):
    """(state before, action, observation, reward, terminated, info) of steps, each a tuple.

    A step is kept each 60 ms of two episodes, in which the robot falls.
    """
    data, rows, rng, kept_each = gym_env.data, [], np.random.default_rng(0), 20 // gym_env.frame_skip
    for step in range(NUM_STEPS * kept_each):
        if step % (NUM_STEPS * kept_each // 2) == 0:
            gym_env.reset(seed=step)
            action = np.zeros(17)
        action = 0.7 * action + 0.6 * rng.uniform(-1, 1, 17)
        before = data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), mass_center(gym_env)
        obs, reward, terminated, _, info = gym_env.step(action * gym_env.action_space.high)
        if (step + 1) % kept_each == 0:
            rows.append((before, action, obs, reward, terminated, info))
    return zip(*rows, strict=True)


def worlds_in(env, qpos, qvel, qacc_warmstart, center):
    """Worlds in states of Gymnasium's, of which the next step needs nothing else."""
    shapes = jax.eval_shape(lambda seeds: env.task.initial(jax.vmap(jax.random.key)(seeds)), np.arange(len(qpos)))
    fresh = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    bodies = replace(fresh.bodies, mass_center=jnp.concatenate([center, 0 * center[:, :1]], axis=1))
    return replace(fresh, qpos=qpos, qvel=qvel, qacc_warmstart=qacc_warmstart, bodies=bodies)


def worlds_at_rest(env, count):
    """Worlds in the model's own pose, with noise."""
    qpos = env.task.model.qpos0 + 0.01 * np.random.default_rng(0).normal(size=(count, env.task.model.nq))
    qpos, qvel = jnp.asarray(qpos, jnp.float32), jnp.zeros((count, env.task.model.nv))
    return worlds_in(env, qpos, qvel, qvel, qvel[:, :2])


def assert_near(actual, expected, tolerance):
    """Asserts that numbers differ by less, relative to 1 and to their size; in float64."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.abs((actual - expected) / (1 + np.abs(expected))).max() < tolerance


# To trace and to compute the contacts of 109 pairs takes a quarter of a minute each time.
@pytest.mark.parametrize(
    ("task", "with_options"),
    [
        ("humanoid", False),
        pytest.param("humanoid", True, marks=pytest.mark.exhaustive),
        pytest.param("humanoid_standup", False, marks=pytest.mark.exhaustive),
        ("humanoid_standup", True),
    ],
)
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_each_step_equals_gymnasiums(task, with_options):
    options = OPTIONS[task] if with_options else {}
    states, actions, obs, rewards, terminated, infos = recorded_steps(gymnasiums(task, **options))
    env = envs.make(task, **options)
    with jax.enable_x64(True):
        start = worlds_in(env, *(jnp.asarray(np.array(x)) for x in zip(*states, strict=True)))
        worlds, terms, ended = interpreted(env.task.advance, start, np.array(actions))
        ours, seen = env.task.step_info(worlds, terms), env.task.observe(worlds)
    assert env.obs_size == seen.shape[1]
    assert_near(seen, obs, 1e-8)
    assert_near(sum(terms.values()), rewards, 1e-8)
    assert ended.tolist() == list(terminated)
    assert ours.keys() == infos[0].keys()
    for name, values in ours.items():
        assert_near(values, [info[name] for info in infos], 1e-8)
    # The test has to have seen what it claims to compare.
    contact = terms["reward_contact" if task == "humanoid" else "reward_impact"]
    assert np.ptp(contact) > 0 and np.abs(actions).max() > 1
    if with_options:
        assert {-0.1, -2.0} <= set(np.round(contact, 12))
    if task == "humanoid" and with_options:
        assert {0.0, 3.0} == set(terms["reward_survive"].tolist()) and not ended.any()
    elif task == "humanoid":
        assert ended.any() and not ended.all()


@pytest.mark.parametrize("task", ["humanoid", pytest.param("humanoid_standup", marks=pytest.mark.exhaustive)])
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_the_first_observation_is_gymnasiums(task):
    gym_env, env = gymnasiums(task), envs.make(task)
    rows = []
    for seed in range(5):
        obs, info = gym_env.reset(seed=seed)
        rows.append((gym_env.data.qpos.copy(), gym_env.data.qvel.copy(), obs, info))
    qpos, qvel, expected, infos = zip(*rows, strict=True)
    with jax.enable_x64(True):
        arrays = jnp.asarray(np.array(qpos)), jnp.asarray(np.array(qvel))

        def first(qpos, qvel):
            worlds = env.task.at_start(worlds_in(env, qpos, qvel, 0 * qvel, 0 * qvel[:, :2]), None)
            return env.task.observe(worlds), env.task.reset_info(worlds)

        seen, ours = interpreted(first, *arrays)
    assert_near(seen, expected, 1e-12)
    assert ours.keys() == infos[0].keys()
    for name, values in ours.items():
        assert_near(values, [info[name] for info in infos], 1e-12)


@pytest.mark.usefixtures("mjx_is_only_traced")
def test_a_robot_of_another_mass_is_seen_from_the_first_step_on():
    env = envs.make("humanoid")
    heavier = np.tile(env.task.model.body_mass, (2, 1))
    heavier[1, 3:] *= 2.0
    still = worlds_at_rest(env, 2)
    seen = interpreted(env.task.at_start, still, {"body_mass": heavier.astype(np.float32)}).bodies
    nominal = interpreted(lambda worlds: env.task.at_start(worlds, None), still).bodies
    assert_near(seen.cinert[0], nominal.cinert[0], 1e-6)
    assert_near(seen.cinert[:, :, 9], heavier, 1e-6)
    assert abs(seen.mass_center[1, 2] - nominal.mass_center[1, 2]) > 0.01


@pytest.mark.exhaustive
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_far_from_the_origin_the_reward_stays_exact():
    env = envs.make("humanoid", frame_skip=1)
    worlds = worlds_at_rest(env, 2)
    far = replace(worlds, qpos=worlds.qpos.at[:, :2].add(jnp.array([8000.0, -3000.0])))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), worlds, far)
    _, terms, _ = interpreted(env.task.advance, both, np.full((4, 17), 0.5, np.float32))
    for values in terms.values():
        np.testing.assert_array_equal(values[:2], values[2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xml_file": "hopper.xml"}, "the first joint, 'rootx', is not free; the first body must be the torso"),
        ({"healthy_z_range": (2.0, 3.0)}, "healthy_z_range: every episode would end at its first step"),
        ({"reset_noise_scale": -1.0}, "env_options.reset_noise_scale: must not be negative"),
    ],
)
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_what_a_humanoid_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as refused:
        envs.make("humanoid", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("mjx_is_only_traced")
def test_a_robot_without_contacts_between_its_limbs_is_stepped_by_spatial(tmp_path):
    text = (Path(gymnasium.__file__).parent / "envs/mujoco/assets/humanoid.xml").read_text()
    named = 'conaffinity="1" condim="1" contype="1"'
    assert named in text
    (tmp_path / "robot.xml").write_text(
        text.replace(named, 'conaffinity="0" condim="1" contype="1"').replace(
            '<geom condim="3"', '<geom conaffinity="1" condim="3"'
        )
    )
    options = {"xml_file": str(tmp_path / "robot.xml")}
    env = envs.make("humanoid", **options)
    assert env.task.physics.name == "spatial"
    states, actions, obs, rewards, *_ = recorded_steps(gymnasiums("humanoid", **options))
    with jax.enable_x64(True):
        start = worlds_in(env, *(jnp.asarray(np.array(x)) for x in zip(*states, strict=True)))
        worlds, terms, _ = interpreted(env.task.advance, start, np.array(actions))
        seen = env.task.observe(worlds)
    assert_near(seen, obs, 1e-8)
    assert_near(sum(terms.values()), rewards, 1e-8)
