"""Contact forces of a step (``step_with_contact_forces``) against C MuJoCo's ``cfrc_ext``, in float64."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from hypothesis import given
from interpreted import interpreted
from parameter_cases import random_parameters
from planar_generated import generated
from planar_models import LEG, gymnasium_model
from spatial_models import TOP, TUMBLER, WRESTLERS, spatial_models, tumbler, tumbling_worlds

from mjxppo import physics
from mjxppo.errors import UserError
from mjxppo.physics.compiler import compiler_aborts


def c_evaluations(model, worlds, steps, fields=None):
    """``xpos`` and ``cfrc_ext`` of C MuJoCo after ``steps`` steps of each world, its solver run to convergence."""
    rows = []
    for i in range(len(worlds)):
        own = model if fields is None else physics.modified_model(model, {k: v[i] for k, v in fields.items()})
        own.opt.tolerance, own.opt.ls_tolerance, own.opt.iterations, own.opt.ls_iterations = 0.0, 1e-10, 60, 200
        data = mujoco.MjData(own)
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:], data.ctrl[:] = (x[i] for x in worlds.arrays())
        mujoco.mj_step(own, data, steps)
        mujoco.mj_rnePostConstraint(own, data)
        rows.append((data.xpos.copy(), data.cfrc_ext.copy()))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def positions(model, qpos):
    """``xpos`` at given positions, [N, nbody, 3]."""
    data, rows = mujoco.MjData(model), []
    for numbers in qpos:
        data.qpos[:] = numbers
        mujoco.mj_kinematics(model, data)
        rows.append(data.xpos.copy())
    return np.array(rows)


def check(model, worlds, steps=1, fields=None, backend="spatial"):
    """Compares both; returns the share of the worlds in which something is touched."""
    xpos, forces = c_evaluations(model, worlds, steps, fields)
    with jax.enable_x64(True):
        sim = physics.make(model, backend, steps)
        state, ctrl = worlds.state(jnp.float64)

        def run(qpos, qvel, warmstart, ctrl, parameters):
            start = sim.init(qpos, qvel, None if fields is None else physics.set_const(model, parameters))
            return sim.step_with_contact_forces(start.replace(qacc_warmstart=warmstart), ctrl)

        moved, last = interpreted(run, state.qpos, state.qvel, state.qacc_warmstart, ctrl, fields or {})
    error = np.abs(last.cfrc_ext - forces).max(axis=(1, 2)) / np.maximum(1.0, np.abs(forces).max(axis=(1, 2)))
    assert error.max() < 1e-9, np.argmax(error)
    if fields is None:
        np.testing.assert_allclose(positions(model, last.qpos), xpos, rtol=1e-9, atol=1e-9)
    assert moved.qpos.shape == last.qpos.shape
    return np.mean(np.abs(forces).max(axis=(1, 2)) > 0)


@pytest.mark.parametrize(
    ("integrator", "tilt", "steps"),
    [("RK4", "10 20 0", 2), pytest.param("Euler", "0 0 0", 1, marks=pytest.mark.exhaustive)],
)
def test_the_forces_are_those_of_cs_last_evaluation(integrator, tilt, steps):
    model = tumbler(integrator, tilt)
    assert check(model, tumbling_worlds(model, 64), steps) > 0.2


def test_bodies_that_touch_each_other_feel_the_same_force():
    model = mujoco.MjModel.from_xml_string(WRESTLERS)
    worlds = tumbling_worlds(model, 64)
    worlds.qpos[:, :3] = np.random.default_rng(1).uniform(-0.2, 0.3, (64, 3))
    assert check(model, worlds) > 0.5


@pytest.mark.exhaustive
def test_the_forces_on_gymnasiums_ant_are_those_of_c():
    model = gymnasium_model("ant")
    assert check(model, tumbling_worlds(model, 64)) > 0.3


@pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")
@pytest.mark.parametrize(
    "model", [TOP, pytest.param(TUMBLER.format(integrator="RK4", tilt="10 20 0"), marks=pytest.mark.exhaustive)]
)
def test_mjx_has_the_same_forces(model):
    model = mujoco.MjModel.from_xml_string(model)
    assert check(model, tumbling_worlds(model, 16), backend="mjx") > 0.2


@generated(max_examples=2)
@given(xml=spatial_models())
def test_the_forces_on_any_model_are_those_of_c(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    check(model, tumbling_worlds(model, 32))


def test_every_world_has_the_forces_of_its_own_model():
    model = mujoco.MjModel.from_xml_string(TOP)
    worlds = tumbling_worlds(model, 16)
    fields = random_parameters(model, len(worlds))
    fields["jnt_stiffness"][:, model.jnt_type < mujoco.mjtJoint.mjJNT_SLIDE.value] = 0
    assert check(model, worlds, 1, fields) > 0.3


ON_A_STAND = """
<mujoco>
  <worldbody>
    <body name="stand"><geom name="floor" type="plane" size="1 1 1"/>
      <body name="arm" pos="0 0 0.1"><joint type="ball"/><geom size="0.2"/></body>
    </body>
  </worldbody>
</mujoco>
"""


WITH_SCENERY = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body pos="2 0 0"><body name="rock"><geom size="0.1" contype="0" conaffinity="0"/></body></body>
    <body name="ball" pos="0 0 0.19"><freejoint/><geom size="0.2"/></body>
  </worldbody>
</mujoco>
"""


def test_fixed_bodies_that_nothing_touches_have_no_contact_forces():
    model = mujoco.MjModel.from_xml_string(WITH_SCENERY)
    assert check(model, tumbling_worlds(model, 20)) > 0.3


def test_backends_and_models_without_contact_forces_are_refused_in_one_line():
    def refused(sim):
        with pytest.raises(UserError) as refusal:
            sim.step_with_contact_forces(
                sim.init(sim.model.qpos0[None], np.zeros((1, sim.model.nv))), np.zeros((1, sim.model.nu))
            )
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    leg = mujoco.MjModel.from_xml_string(LEG)
    assert refused(physics.make(leg, "planar")) == (
        "physics.backend: planar computes no contact forces; use spatial or mjx"
    )
    stand = mujoco.MjModel.from_xml_string(ON_A_STAND)
    assert 'contact forces where body "stand" hangs on a fixed body' in refused(physics.make(stand, "spatial"))
