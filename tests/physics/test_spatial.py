"""The spatial backend against C MuJoCo: one step in float64, from any state, of given and of generated models."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY
from hypothesis import given
from parameter_cases import c_step_of_each, random_parameters
from planar_generated import generated
from planar_models import LEG, Worlds, gymnasium_model, hard_worlds
from spatial_models import (
    SERVOS,
    STACKED,
    TOP,
    WRESTLERS,
    relative_errors,
    spatial_models,
    spatial_step,
    tumbler,
    tumbling_worlds,
)

from mjxppo import physics
from mjxppo.physics.base import PhysicsState
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.planar import PlanarPhysics
from mjxppo.physics.spatial import SpatialPhysics

RUSTY = """
<mujoco>
  <option timestep="0.005" integrator="{integrator}"/>
  <worldbody>
    <body pos="0 0 0.3">
      <freejoint/>
      <geom type="capsule" size="0.1 0.15"/>
      <body pos="0.2 0 0">
        <joint name="arm" axis="0 1 1" frictionloss="0.5" range="-30 40" limited="true"/>
        <geom size="0.1"/>
        <body pos="0.2 0 0">
          <joint axis="1 0 0" frictionloss="0.05" solimpfriction="0.5 0.9 0.01"/>
          <geom size="0.08" pos="0 0.1 0"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="arm" gear="2"/></actuator>
</mujoco>
"""


@pytest.mark.parametrize(
    ("integrator", "tilt"), [("RK4", "10 20 0"), pytest.param("Euler", "0 0 0", marks=pytest.mark.exhaustive)]
)
def test_a_step_is_that_of_c(integrator, tilt):
    model = tumbler(integrator, tilt)
    assert relative_errors(model, tumbling_worlds(model, 256)).max() < 1e-9


@generated(max_examples=4)
@given(xml=spatial_models())
def test_a_step_of_any_model_is_that_of_c(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    errors = relative_errors(model, tumbling_worlds(model, 256))
    assert errors.max() < 1e-9, np.argmax(errors)


SOFT_AND_HARD = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="0"/>
    <body pos="0 0 0.1">
      <freejoint/>
      <geom size="0.1" pos="0.1 0 0" contype="0" priority="1" solimp="0.3 0.9 0 0.5 2"/>
      <geom size="0.1" pos="-.1 0 0" contype="0" priority="1" solimp="0.3 0.9 0.2 0.5 2"/>
      <geom size="0.1" pos="0 0.1 0" contype="0" priority="1" solimp="0.5 0.5 0.1 0.5 2" friction="0.3"/>
    </body>
  </worldbody>
</mujoco>
"""


ROLLING = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="0"/>
    <body pos="0 0 0.1">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 0 1"/>
      <joint axis="0 1 0"/>
      <geom type="capsule" size="0.05 0.2" euler="30 40 0" contype="0" friction="0.7"/>
    </body>
  </worldbody>
</mujoco>
"""


def test_a_capsule_whose_axis_keeps_a_component_slides_as_in_c():
    """It turns about y, so that its axis has the same y everywhere, which is no 0."""
    model = mujoco.MjModel.from_xml_string(ROLLING)
    assert relative_errors(model, tumbling_worlds(model, 128)).max() < 1e-9


def test_contacts_of_different_impedances_are_those_of_c():
    """One jumps at once, one grows over a width, one is constant: computed together, each keeps its form."""
    model = mujoco.MjModel.from_xml_string(SOFT_AND_HARD)
    assert relative_errors(model, tumbling_worlds(model, 128)).max() < 1e-9


@pytest.mark.parametrize("integrator", ["Euler", pytest.param("RK4", marks=pytest.mark.exhaustive)])
def test_dry_friction_sticks_and_slides_as_in_c(integrator):
    """With warm starts from which Newton's full steps go to and fro between the two directions of sliding."""
    model = mujoco.MjModel.from_xml_string(RUSTY.format(integrator=integrator))
    assert relative_errors(model, tumbling_worlds(model, 512)).max() < 1e-9


BOXES = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 1" conaffinity="0" euler="10 20 0"/>
    <body pos="0 0 0.2">
      <freejoint/>
      <geom type="box" size="0.1 0.2 0.05" euler="20 30 10" contype="0" margin="0.02"/>
      <body pos="0.3 0 0">
        <joint axis="0 1 1"/>
        <geom type="box" size="0.05 0.05 0.05" contype="0" condim="1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def test_boxes_stand_and_tumble_on_a_plane_as_in_c():
    model = mujoco.MjModel.from_xml_string(BOXES)
    assert relative_errors(model, tumbling_worlds(model, 256)).max() < 1e-9


SHOULDERS = """
<mujoco>
  <option timestep="0.005" integrator="{integrator}">{flag}</option>
  <worldbody>
    <body>
      <joint type="ball" {first} armature="0.01"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0.1" size="0.05"/>
      <body pos="0.3 0 0.1" euler="20 30 40">
        <joint type="ball" {second} damping="0.2"/>
        <geom type="capsule" fromto="0 0 0 0.2 0.1 0" size="0.05"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def at_special_turns(worlds):
    """Some worlds whose first ball is not turned, turned by next to nothing, by half a turn, and by nearly a whole."""
    angles = [0.0, 1e-12, 1e-7, 1e-3, np.pi - 1e-6, np.pi, np.pi + 1e-6, 2 * np.pi - 1e-3, 2 * np.pi]
    axes = np.random.default_rng(0).normal(size=(len(angles), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    half = np.array(angles)[:, None] / 2
    worlds.qpos[: len(angles), :4] = np.concatenate([np.cos(half), np.sin(half) * axes], axis=1)
    return worlds


@pytest.mark.parametrize(
    ("integrator", "first", "second", "flag"),
    [
        ("Euler", 'limited="true" range="0 100"', 'stiffness="30"', ""),
        ("RK4", 'stiffness="5" limited="true" range="0 30" margin="0.1"', 'limited="true" range="0 170"', ""),
        pytest.param("Euler", 'stiffness="3"', "", '<flag spring="disable"/>', marks=pytest.mark.exhaustive),
        pytest.param(
            "Euler", 'limited="true" range="0 9"', "", '<flag limit="disable"/>', marks=pytest.mark.exhaustive
        ),
    ],
)
def test_balls_are_held_as_in_c(integrator, first, second, flag):
    model = mujoco.MjModel.from_xml_string(
        SHOULDERS.format(integrator=integrator, first=first, second=second, flag=flag)
    )
    assert relative_errors(model, at_special_turns(tumbling_worlds(model, 256))).max() < 1e-9


@pytest.mark.parametrize("flag", ["", '<flag spring="disable"/>', '<flag damper="disable"/>'])
def test_tendons_pull_as_in_c(flag):
    """Over two hinges and a slide, one slack within a range; a third has neither spring nor damper."""
    tendons = """
      <tendon>
        <fixed stiffness="30" damping="2"><joint joint="a" coef="1"/><joint joint="b" coef="-0.7"/></fixed>
        <fixed stiffness="50" springlength="-0.1 0.2"><joint joint="b" coef="0.5"/><joint joint="c" coef="2"/></fixed>
        <fixed><joint joint="c" coef="1"/></fixed>
      </tendon></mujoco>"""
    xml = SERVOS.replace("implicitfast", "Euler").replace("</mujoco>", tendons).replace("<worldbody>", "{}<worldbody>")
    model = mujoco.MjModel.from_xml_string(xml.replace("{}", f"<option>{flag}</option>" if flag else ""))
    assert relative_errors(model, tumbling_worlds(model, 64)).max() < 1e-9


def test_implicitfast_is_that_of_c():
    model = mujoco.MjModel.from_xml_string(SERVOS)
    assert relative_errors(model, tumbling_worlds(model, 256)).max() < 1e-9


def test_bodies_that_touch_each_other_move_as_in_c():
    model = mujoco.MjModel.from_xml_string(WRESTLERS)
    worlds = tumbling_worlds(model, 256)
    worlds.qpos[:, :3] = np.random.default_rng(1).uniform(-0.2, 0.3, (256, 3))
    assert relative_errors(model, worlds).max() < 1e-9


@pytest.mark.parametrize(("first", "second"), [("capsule", "capsule"), ("capsule", "sphere"), ("sphere", "sphere")])
def test_capsules_that_are_parallel_or_cross_touch_as_in_c(first, second):
    """Side by side, end to end, one in the other, and through each other."""
    model = mujoco.MjModel.from_xml_string(STACKED.format(first=first, second=second))
    aside, upright = 0.05 + 0.1 * np.arange(2), (1.0, 0.0, 0.0, 0.0)
    across = (np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0)
    places = [
        (x, y, z, *turn) for x in (0, *aside) for y in (0, 0.02) for z in (0, 0.25, 0.45) for turn in (upright, across)
    ]
    qpos = np.array(places)
    rng = np.random.default_rng(0)
    worlds = Worlds(qpos, rng.normal(size=(len(qpos), 6)), np.zeros((len(qpos), 6)), np.zeros((len(qpos), 0)))
    assert relative_errors(model, worlds).max() < 1e-9


@pytest.mark.parametrize("name", ["swimmer", "reacher", pytest.param("ant", marks=pytest.mark.exhaustive)])
def test_a_step_of_gymnasiums_robots_is_that_of_c(name):
    model = gymnasium_model(name)
    assert relative_errors(model, tumbling_worlds(model, 256)).max() < 1e-9


def test_a_planar_robot_moves_as_in_the_planar_backend():
    model = mujoco.MjModel.from_xml_string(LEG)
    worlds = hard_worlds(model, 64)
    with jax.enable_x64(True):
        out = jax.jit(PlanarPhysics(model, 3).step, compiler_options=QUICKLY)(*worlds.state(jnp.float64))
    qpos, qvel = spatial_step(model, worlds, 3)
    np.testing.assert_allclose(qvel, out.qvel, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(qpos, out.qpos, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("flags", ["SPRING", "DAMPER", "SPRING DAMPER"])
def test_without_springs_and_dampers_there_is_no_medium(flags):
    model = mujoco.MjModel.from_xml_string(TOP)
    model.opt.disableflags = sum(getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}") for flag in flags.split())
    assert relative_errors(model, tumbling_worlds(model, 32)).max() < 1e-9


@pytest.mark.parametrize("xml", [TOP, pytest.param(WRESTLERS, marks=pytest.mark.exhaustive)])
def test_every_world_is_c_mujoco_on_its_own_model(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    worlds = tumbling_worlds(model, 32)
    fields = random_parameters(model, len(worlds))
    # C MuJoCo has no quaternion's spring to move.
    fields["jnt_stiffness"][:, model.jnt_type < mujoco.mjtJoint.mjJNT_SLIDE.value] = 0
    expected = c_step_of_each(model, fields, worlds, 1)
    with jax.enable_x64(True):
        sim = SpatialPhysics(model)
        start, ctrl = worlds.state(jnp.float64)

        def run(fields):
            own = sim.init(start.qpos, start.qvel, physics.set_const(model, fields))
            return sim.step(own.replace(qacc_warmstart=start.qacc_warmstart), ctrl)

        actual = np.asarray(jax.jit(run, compiler_options=QUICKLY)(fields).qvel)
    error = np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))
    assert error.max() < 1e-9


@pytest.mark.parametrize(
    "xml",
    [
        TOP,
        pytest.param(RUSTY.format(integrator="implicitfast"), marks=pytest.mark.exhaustive),
        pytest.param(WRESTLERS, marks=pytest.mark.exhaustive),
    ],
)
def test_the_derivative_is_that_of_finite_differences(xml):
    """In the median world: a difference across the making of a contact says nothing."""
    model = mujoco.MjModel.from_xml_string(xml)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        sim, worlds = SpatialPhysics(model), tumbling_worlds(model, 64)
        start, ctrl = worlds.state(jnp.float64)

        def step(qvel, ctrl):
            return sim.step(start.replace(qvel=qvel), ctrl).qvel

        point, direction = (start.qvel, ctrl), tuple(jnp.asarray(rng.normal(size=x.shape)) for x in (start.qvel, ctrl))
        compiled = jax.jit(step, compiler_options=QUICKLY)
        forward = jax.jit(lambda: jax.jvp(step, point, direction)[1], compiler_options=QUICKLY)()
        h = 1e-6
        ahead, behind = (compiled(*(x + s * d for x, d in zip(point, direction, strict=True))) for s in (h, -h))
        forward, ahead, behind = (np.asarray(x) for x in (forward, ahead, behind))
    quotient = (ahead - behind) / (2 * h)
    error = np.abs(forward - quotient).max(axis=1) / np.abs(quotient).max(axis=1)
    assert np.median(error) < 1e-6


ROBOT = """
<mujoco>
  <option {option}/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <body name="trunk" pos="0 0 1">
      <joint name="root" {root}/>
      <geom name="hull" {geom}/>
      <body pos="1 0 0"><joint name="arm" axis="1 0 0"/><geom size="0.1" contype="0"/></body>
    </body>
    <body pos="3 0 1"><freejoint/><geom name="stone" size="0.1" conaffinity="0"/></body>
    {many}
  </worldbody>
  {rest}
</mujoco>
"""
REFUSED = {
    "cylinder": ({"geom": 'type="cylinder" size="0.1 0.1"'}, 'contact of geom "floor" with geom "hull"'),
    "box": (
        {"many": '<geom name="block" type="box" size="1 1 1" conaffinity="0"/>', "geom": 'size="0.2"'},
        'contact of geom "hull" with geom "block"',
    ),
    "many pairs": ({"many": "<body><freejoint/><geom size='1'/></body>" * 7}, "43 pairs of moving geoms"),
    "free joint's spring": ({"root": 'type="free" stiffness="3"'}, 'the spring of free joint "root"'),
    "motor on a ball": (
        {"root": 'type="ball"', "rest": '<actuator><motor name="m" joint="root" ctrlrange="-1 1"/></actuator>'},
        'actuator "m" on ball joint "root"',
    ),
    "implicit integrator": ({"option": 'integrator="implicit"'}, "option integrator implicit: only Euler, RK4 and"),
    "free body by implicitfast": (
        {"option": 'integrator="implicitfast"'},
        "the integrator implicitfast with free joint #2, on",
    ),
    "spatial tendon": (
        {
            "many": '<site name="here"/><body><joint/><geom size="0.1" contype="0"/><site name="there"/></body>',
            "rest": '<tendon><spatial name="rope"><site site="here"/><site site="there"/></spatial></tendon>',
        },
        'the spatial tendon "rope"',
    ),
    "elliptic cones": ({"option": 'cone="elliptic"'}, "option cone elliptic"),
    "direct solreffriction": (
        {"root": 'axis="0 0 1" frictionloss="1" solreffriction="-9 -1"'},
        'solref -9 -1 of frictionloss of joint "root"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_represented_is_named(case):
    changes, named = REFUSED[case]
    parts = {"option": "", "root": 'type="free"', "geom": 'size="0.2" conaffinity="0"', "rest": "", "many": ""}
    model = mujoco.MjModel.from_xml_string(ROBOT.format(**parts | changes))
    with pytest.raises(UnsupportedModelError) as refusal:
        SpatialPhysics(model)
    assert str(refusal.value).startswith("spatial physics cannot represent ") and named in str(refusal.value)


@pytest.mark.usefixtures("mjx_is_only_traced")
def test_auto_takes_the_fastest_that_can_represent_the_model_and_says_why_it_is_no_faster_one():
    made = physics.make(tumbler())
    assert made.name == "spatial" and made.not_planar.startswith("planar physics cannot represent free joint")
    made = physics.make(gymnasium_model("humanoid"))
    assert made.name == "mjx"
    assert made.not_planar.startswith("planar physics cannot represent free joint")
    assert made.not_planar.endswith(
        "; spatial physics cannot represent 109 pairs of moving geoms that can touch: at most 24; exclude some"
    )
    made = physics.make(gymnasium_model("swimmer"))
    assert made.name == "spatial" and made.not_planar == "planar physics cannot represent option density 4000: only 0"


def test_a_world_does_not_depend_on_the_others():
    model = mujoco.MjModel.from_xml_string(TOP)
    worlds, sim = tumbling_worlds(model, 24), SpatialPhysics(model, block_size=8)
    step = jax.jit(sim.step, compiler_options=QUICKLY)
    together = step(*worlds.state())
    alone = step(*worlds[5:6].state())
    assert isinstance(alone, PhysicsState)
    for whole, part in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(whole[5:6], part)


def test_vmap_is_one_call_with_more_worlds():
    model = tumbler()
    state, ctrl = tumbling_worlds(model, 12).state()
    sim = SpatialPhysics(model)
    together = jax.jit(sim.step, compiler_options=QUICKLY)(state, ctrl)
    nested = jax.tree.map(lambda x: x.reshape(2, 3, 2, *x.shape[1:]), (state, ctrl))
    apart = jax.jit(jax.vmap(jax.vmap(sim.step)), compiler_options=QUICKLY)(*nested)
    for whole, parts in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(whole, parts.reshape(whole.shape), rtol=1e-5, atol=1e-5 * np.abs(whole).max())
