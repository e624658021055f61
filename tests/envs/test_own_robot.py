"""Robots and worlds of a user's: as Gymnasium's C MuJoCo has them, or refused in one line."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import jax
import mujoco
import numpy as np
import pytest

from mjxppo import envs
from mjxppo.config.check import make_config
from mjxppo.config.values import to_yaml
from mjxppo.envs.foreign.adapted import make_one
from mjxppo.envs.robot import depends_on_x, model_file
from mjxppo.errors import UserError
from mjxppo.interop.gymnasium import make_vec
from mjxppo.run.session import configuration_of

ASSETS = Path(gymnasium.__file__).parent / "envs/mujoco/assets"
GEOM, JOINT = mujoco.mjtGeom, mujoco.mjtJoint


def written(change: Any, path: Path, name: str = "half_cheetah.xml") -> str:
    spec = mujoco.MjSpec.from_file(str(ASSETS / name))
    change(spec)
    with warnings.catch_warnings(action="ignore"):  # attributes of Gymnasium's files that MuJoCo no longer likes
        spec.compile()
        path.write_text(spec.to_xml())
    return str(path)


def bump(spec):
    spec.worldbody.add_geom(name="bump", type=GEOM.mjGEOM_SPHERE, size=[0.12, 0, 0], pos=[1, 0, 0], conaffinity=1)


def tilt(spec):
    half = np.radians(5) / 2
    spec.geom("floor").quat = [np.cos(half), 0, np.sin(half), 0]


def limit(spec):
    spec.joint("rootx").range, spec.joint("rootx").limited = [-1, 1], 1


def spring(spec):
    spec.joint("rootx").stiffness = [30, 0, 0]


def servo(spec):
    servo = spec.add_actuator(name="servo", target="rootx", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.ctrlrange, servo.ctrllimited = [-1, 1], 1
    servo.gainprm[0], servo.biastype, servo.biasprm[1] = 50, mujoco.mjtBias.mjBIAS_AFFINE, -50


def scenery(spec):
    """A wall that nothing touches."""
    spec.worldbody.add_geom(type=GEOM.mjGEOM_BOX, size=[0.1, 1, 1], pos=[1, 0, 0], contype=0, conaffinity=0)


def unchanged(spec):
    pass


@pytest.mark.parametrize(
    "change",
    [
        limit,
        servo,
        scenery,
        *(pytest.param(change, marks=pytest.mark.exhaustive) for change in (unchanged, bump, tilt, spring)),
    ],
)
def test_a_world_is_c_mujocos_or_refused(tmp_path, change):
    path = written(change, tmp_path / "robot.xml")
    dependent = change not in (unchanged, scenery)
    assert (depends_on_x(mujoco.MjModel.from_xml_path(path)) is not None) == dependent
    env = envs.make("half_cheetah", xml_file=path, reset_noise_scale=0.0)
    state = env.reset(jax.random.split(jax.random.key(0), 1))
    worlds = replace(state.worlds, qvel=state.worlds.qvel.at[:, 0].set(4.0))
    state = replace(state, worlds=worlds)
    gym = gymnasium.make("HalfCheetah-v5", xml_file=path, reset_noise_scale=0.0)
    gym.reset(seed=0)
    model = gym.unwrapped.model
    qvel = np.zeros(model.nv)
    qvel[0] = 4
    gym.unwrapped.set_state(gym.unwrapped.init_qpos, qvel)
    step, rewards = jax.jit(env.step), []
    for _ in range(25):
        state = step(state, np.zeros((1, model.nu), np.float32))
        rewards.append((float(state.reward[0]), gym.step(np.zeros(model.nu, np.float32))[1]))
    got, expected = state.worlds.qpos[0], gym.unwrapped.data.qpos
    assert float(got[0]) > 0.5, "far enough to meet what is there"
    np.testing.assert_allclose(got, expected, atol=5e-3)
    np.testing.assert_allclose(*np.transpose(rewards), atol=2e-2)


def wide(actuators):
    for actuator in actuators:
        actuator.ctrlrange, actuator.ctrllimited = [-2, 2], 1


def lopsided(actuators):
    for i, actuator in enumerate(actuators):
        actuator.ctrlrange, actuator.ctrllimited = [-0.5 - i, 1.5], 1


@pytest.mark.parametrize("change", [wide, lopsided])
def test_an_action_means_the_same_in_training_and_evaluation(tmp_path, change):
    path = written(lambda spec: change(spec.actuators), tmp_path / "robot.xml", "hopper.xml")
    options = {"xml_file": path, "reset_noise_scale": 0.0, "terminate_when_unhealthy": False}
    env, gym = envs.make("hopper", **options), make_one("Hopper-v5", options)
    state = env.reset(jax.random.split(jax.random.key(0), 1))
    gym.reset(seed=0)
    step = jax.jit(env.step)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32):
        state = step(state, action[None])
        obs, reward, *_ = gym.step(action)
        np.testing.assert_allclose(state.obs[0], obs, atol=5e-3)
        np.testing.assert_allclose(state.reward[0], reward, atol=2e-2)
    vector = make_vec("hopper", 2, **options)
    assert (vector.single_action_space.low == -1).all() and (vector.single_action_space.high == 1).all()
    vector.close()


def without_range(spec):
    spec.actuators[1].ctrllimited, spec.actuators[1].ctrlrange = 0, [0, 0]


def without_actuators(spec):
    for actuator in list(spec.actuators):
        spec.delete(actuator)


def root_along_y(spec):
    spec.joint("rootx").axis = [0, 1, 0]


def root_turned(spec):
    """The torso's joints are in an order of their own."""
    spec.joint("rootx").axis, spec.joint("rootz").axis = [0, 0, 1], [1, 0, 0]


def without_floor(spec):
    spec.delete(spec.geom("floor"))


def floor_of_another_group(spec):
    spec.geom("floor").contype, spec.geom("floor").conaffinity = 2, 2


def without_reference(spec):
    spec.joint("rootz").ref = 0


def endless_range(spec):
    spec.actuators[1].ctrlrange = [-np.inf, np.inf]


def servo_with_a_state(spec):
    spec.actuators[1].dyntype, spec.actuators[1].name = mujoco.mjtDyn.mjDYN_INTEGRATOR, "knee"


def box_foot(spec):
    foot = spec.body("foot").add_geom(name="foot", type=GEOM.mjGEOM_BOX, size=[0.1, 0.1, 0.05])
    foot.contype, foot.conaffinity = 1, 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_range, "the actuator 1 has no ctrlrange"),
        (endless_range, "the actuator 1 has the ctrlrange -inf to inf, and MuJoCo takes no control beyond 1e+10"),
        (
            servo_with_a_state,
            'robot.xml: mjx: the state of actuator "knee" is not carried between steps; make it a motor',
        ),
        (without_actuators, "has no actuator"),
        (root_along_y, "the first joint, 'rootx', must slide along x"),
        (root_turned, "the first joint, 'rootx', must slide along x"),
        (without_floor, "has no ground: the joint 'rootz' lets the robot fall"),
        (floor_of_another_group, "has no ground: the joint 'rootz' lets the robot fall"),
        (without_reference, "every episode would end at its first step: the robot starts at z = 0"),
        (box_foot, 'mjx: contact of the box geom "foot" with the plane geom "floor" would not be MuJoCo'),
    ],
)
def test_a_robot_that_cannot_be_right_is_refused_in_one_line(tmp_path, change, message):
    path = written(change, tmp_path / "robot.xml", "hopper.xml")
    with pytest.raises(UserError) as refused:
        envs.make("hopper", xml_file=path)
    assert message in str(refused.value) and "\n" not in str(refused.value)


IN_A_BODY = """
<mujoco>
  <worldbody>
    {floor}
    <body name="base">
      <body name="torso" pos="0 0 1">
        <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1" ref="1"/><joint axis="0 1 0"/>
        <geom size="0.1"/>
        <body><joint name="knee" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05"/></body>
      </body>
      {inside}
    </body>
  </worldbody>
  <actuator><motor joint="knee" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
FLOOR, ROCK = (
    '<geom type="plane" size="9 9 1"/>',
    '<body name="rock" pos="0.3 0 0.1"><geom name="rock" size="0.2"/></body>',
)


@pytest.mark.parametrize(
    ("floor", "inside", "reason"),
    [
        (FLOOR, "", None),
        ("", FLOOR, None),
        (FLOOR, ROCK, "the geom 'rock'"),
        (FLOOR, ROCK.replace("><geom", '><joint axis="0 0 1"/><geom'), "the geom 'rock'"),
    ],
)
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_what_hangs_beside_the_robot_in_one_body_belongs_to_the_world(tmp_path, floor, inside, reason):
    (tmp_path / "robot.xml").write_text(IN_A_BODY.format(floor=floor, inside=inside))
    env = envs.make("hopper", xml_file=tmp_path / "robot.xml")
    assert depends_on_x(env.task.model) == reason and env.task._depends_on_x == (reason is not None)


@pytest.mark.parametrize(
    ("degrees", "floor", "reason"), [(0, FLOOR, None), (0.2, FLOOR, "the geom 0"), (0.2, "", None)]
)
def test_a_robot_whose_slide_is_tilted_depends_on_x_where_there_is_a_floor(degrees, floor, reason):
    tilted = IN_A_BODY.replace('name="base"', f'name="base" euler="0 {degrees} 0"').format(floor=floor, inside="")
    assert depends_on_x(mujoco.MjModel.from_xml_string(tilted)) == reason


@pytest.mark.parametrize("joints", [1, 2])
def test_a_robot_with_too_few_joints_is_refused(tmp_path, joints):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(pos=[0, 0, 1])
    body.add_joint(name="rootx", type=JOINT.mjJNT_SLIDE, axis=[1, 0, 0])
    if joints > 1:
        body.add_joint(name="rootz", type=JOINT.mjJNT_SLIDE, axis=[0, 0, 1])
    body.add_geom(type=GEOM.mjGEOM_SPHERE, size=[0.1, 0, 0])
    spec.compile()
    (tmp_path / "few.xml").write_text(spec.to_xml())
    with pytest.raises(
        UserError, match=f"has {joints} joints; the task needs a root of 3: first slide along x, second"
    ):
        envs.make("hopper", xml_file=str(tmp_path / "few.xml"))


def test_one_rule_for_which_file_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robots").mkdir()
    for place in ("hopper.xml", "robots/mine.xml", "mine.xml"):
        shutil.copy(ASSETS / "hopper.xml", place)
    assert model_file("hopper.xml") == model_file(b"hopper.xml") == "hopper.xml", "Gymnasium's"
    for name in ("./hopper.xml", "robots/mine.xml", "mine.xml", Path("robots/mine.xml")):
        absolute = str(tmp_path / name)
        assert model_file(name) == absolute
        config, _ = configuration_of({"env": "hopper", "env_options": {"xml_file": name}})
        assert config.env_options["xml_file"] == absolute and absolute in to_yaml(config)
        assert envs.make("hopper", xml_file=name).task.options.xml_file == absolute
        assert make_one("Hopper-v5", {"xml_file": name}).unwrapped.fullpath == absolute
    with pytest.raises(UserError, match=r"env_options.xml_file: there is no file"):
        model_file("nowhere.xml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ctrl_cost_weight", np.nan, "must be a finite number, not nan"),
        ("forward_reward_weight", np.float32(np.inf), "must be a finite number, not inf"),
        ("healthy_z_range", (np.nan, 2.0), "must be numbers, not "),
        ("healthy_z_range", (1.25, 1.25), "every episode would end at its first step"),
        ("frame_skip", 2**31, "must be from 1 to 2147483647"),
        ("max_episode_steps", 2**31, "must be from 1 to 2147483647"),
        ("xml_file", "a" * 5000, "cannot be a file: File name too long"),
        ("xml_file", "~nobody-of-that-name/robot.xml", "cannot be a file: Could not determine home"),
    ],
)
def test_options_that_make_no_task_are_refused_in_one_line(name, value, message):
    with pytest.raises(UserError, match=f"^env_options.{name}: .*{message}") as refused:
        envs.make("hopper", **{name: value})
    assert "\n" not in str(refused.value)


def test_numbers_of_numpy_and_paths_are_taken(tmp_path):
    options = {
        "ctrl_cost_weight": np.float64(0.002),
        "healthy_z_range": np.array([0.5, 2.0]),
        "xml_file": tmp_path / "a",
    }
    ppo = {"num_envs": np.int64(256), "gamma": np.float32(0.5), "normalize_obs": np.bool_(False)}
    config = make_config(
        {"env": "hopper", "env_options": options, "ppo": ppo, "policy": {"hidden_sizes": np.array([8])}}
    )
    plain = {"ctrl_cost_weight": 0.002, "healthy_z_range": [0.5, 2.0], "xml_file": str(tmp_path / "a")}
    assert config.env_options == plain and config.policy.hidden_sizes == (8,)
    assert (config.ppo.num_envs, config.ppo.gamma, config.ppo.normalize_obs) == (256, 0.5, False)
    to_yaml(config)
