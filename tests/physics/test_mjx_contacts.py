"""Rows of the ``mjx`` backend that are C MuJoCo's and not MJX's, or hard to solve: steep capsules, dry friction."""

from __future__ import annotations

import jax
import mujoco
import numpy as np
import pytest
from interpreted import interpreted
from planar_models import Worlds, c_step
from spatial_models import tumbling_worlds

from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.mjx import MjxPhysics

pytestmark = pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")

STANDING = """
<mujoco>
  <option timestep="0.005" gravity="2 1 -9.81"/>
  <worldbody>
    <geom type="plane" size="1 1 1" {tilt}/>
    <body><freejoint/><geom type="capsule" size="0.1 0.3" friction="0.4" condim="{condim}"/></body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(("tilt", "condim"), [("", 3), ('euler="25 10 0"', 3), ('euler="70 0 0"', 4)])
def test_a_steep_capsule_slides_as_in_c(tilt, condim):
    """MJX takes y or z for the first tangent of a capsule that is less than 30 degrees from upright."""
    model = mujoco.MjModel.from_xml_string(STANDING.format(tilt=tilt, condim=condim))
    rng = np.random.default_rng(0)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    plane = data.geom_xmat[0].reshape(3, 3)
    qpos = np.zeros((24, 7))
    for i, angle in enumerate(np.linspace(0, 0.9, len(qpos))):
        across = plane @ [np.cos(turn := rng.uniform(0, 6.3)), np.sin(turn), 0]
        quaternion, upright = np.zeros((2, 4))
        mujoco.mju_axisAngle2Quat(quaternion, across, angle)
        mujoco.mju_mat2Quat(upright, plane.ravel())
        mujoco.mju_mulQuat(qpos[i, 3:], quaternion, upright)
        qpos[i, :3] = (0.1 + 0.3 * np.cos(angle) - 0.005) * plane[:, 2]
    worlds = Worlds(qpos, rng.normal(size=(24, 6)), np.zeros((24, 6)), np.zeros((24, 0)))
    expected = c_step(model, worlds, 1)[1]
    with jax.enable_x64(True):
        sim = MjxPhysics(model, 1)
        state, ctrl = worlds.state(np.float64)
        actual = interpreted(sim.step, state, ctrl).qvel
    np.testing.assert_allclose(actual, expected, atol=1e-8)


SQUEAKING = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <body pos="0 0 0.5">
      <joint type="free" frictionloss="0.5"/>
      <geom size="0.15"/>
      <body pos="0.1 0 0">
        <joint axis="0 1 0.2" damping="1" armature="0.1" frictionloss="0.2"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 -0.3" size="0.05"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def test_dry_friction_is_solved_from_any_start():
    """A line search that ends on either side of the short range between the limits never gets there."""
    model = mujoco.MjModel.from_xml_string(SQUEAKING)
    worlds = tumbling_worlds(model, 400)
    expected = c_step(model, worlds, 1)[1]
    with jax.enable_x64(True):
        sim = MjxPhysics(model, 1)
        state, ctrl = worlds.state(np.float64)
        actual = interpreted(sim.step, state, ctrl).qvel
    np.testing.assert_allclose(actual, expected, atol=1e-8)
