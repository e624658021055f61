"""Contacts of capsules in the ``mjx`` backend are those of C MuJoCo, also where axes cross."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.mjx.capsule_pairs import has_capsule_pairs, with_capsule_pairs

pytestmark = pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")

TWO_CAPSULES = """
<mujoco><worldbody>
  <body><freejoint/><geom type="capsule" size="0.1 0.5"/></body>
  <body><freejoint/><geom type="capsule" size="0.07 0.3"/></body>
</worldbody></mujoco>
"""


def turned(rng: np.random.Generator, planar: bool) -> np.ndarray:
    """A quaternion at random, with ``planar`` a turn about y."""
    angle = rng.uniform(-np.pi, np.pi)
    quat = np.array([np.cos(angle / 2), 0, np.sin(angle / 2), 0]) if planar else rng.normal(size=4)
    return quat / np.linalg.norm(quat)


def axis(quat: np.ndarray) -> np.ndarray:
    """The direction of a capsule that is turned by ``quat``."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)[:, 2]


def touching_poses(model: mujoco.MjModel, count: int, pose: str) -> np.ndarray:
    """qpos [count, nq] of capsules that touch; "planar" and "crossing": whose axes meet somewhere inside both."""
    rng = np.random.default_rng(0)
    qpos = np.zeros((count, model.nq))
    for row in qpos:
        row[3:7] = turned(rng, pose == "planar")
        # From hardly parallel to perpendicular.
        turn = rng.normal(size=4) * 10.0 ** rng.uniform(-2, 0) + [3, 0, 0, 0]
        nearly = np.zeros(4)
        mujoco.mju_mulQuat(nearly, row[3:7], turn / np.linalg.norm(turn))
        row[10:14] = nearly if pose == "any" else turned(rng, pose == "planar")
        one, other = axis(row[3:7]), axis(row[10:14])
        within = 0.4 if model.geom_type[0] == mujoco.mjtGeom.mjGEOM_CAPSULE.value else 0.0
        row[7:10] = rng.uniform(-within, within) * one - rng.uniform(-0.2, 0.2) * other
        if pose == "any":
            row[7:10] += rng.uniform(-0.09, 0.09, 3)
    return qpos


def contacts_of_c(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distance [N], position [N, 3] and normal [N, 3] of the one contact of each pose."""
    data = mujoco.MjData(model)
    rows = []
    for one in qpos:
        data.qpos[:] = one
        mujoco.mj_forward(model, data)
        assert data.ncon == 1
        rows.append((data.contact[0].dist, data.contact[0].pos.copy(), data.contact[0].frame[:3].copy()))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("pose", "first"), [("planar", "capsule"), ("crossing", "capsule"), ("any", "capsule"), ("any", "sphere")]
)
def test_the_contact_of_a_capsule_is_that_of_c_mujoco(pose, first):
    model = mujoco.MjModel.from_xml_string(TWO_CAPSULES.replace("capsule", first, 1))
    qpos = touching_poses(model, 200, pose)
    expected = contacts_of_c(model, qpos)
    with jax.enable_x64(True):
        mjx_model = mjx.put_model(model, impl="jax")
        start = mjx.make_data(mjx_model)

        def contact(qpos):
            data = mjx.kinematics(mjx_model, start.replace(qpos=qpos))
            found = with_capsule_pairs(mjx_model, mjx.collision(mjx_model, data))._impl.contact
            return found.dist[0], found.pos[0], found.frame[0, 0]

        got = jax.vmap(contact)(jnp.asarray(qpos))
    for actual, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("xml", "found"),
    [
        (TWO_CAPSULES, True),
        (TWO_CAPSULES.replace("capsule", "sphere"), False),
        (TWO_CAPSULES.replace("capsule", "sphere", 1), True),
    ],
)
def test_only_models_whose_capsules_touch_each_other_look_for_crossings(xml, found):
    assert has_capsule_pairs(mujoco.MjModel.from_xml_string(xml)) is found
