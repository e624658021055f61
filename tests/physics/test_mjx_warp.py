"""The ``mjx-warp`` backend on the CPU: fidelity, what happens when it runs out of slots, a missing installation."""

import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from gaits import converged_step, gait_states

from mjxppo import physics
from mjxppo.envs.robot import robot_model
from mjxppo.errors import UserError
from mjxppo.measure.visited_states import FRAME_SKIP
from mjxppo.physics import PhysicsState
from mjxppo.physics.mjx import MjxWarpPhysics
from mjxppo.physics.mjx.warp_backend import contact_and_row_bounds

TASK = "half_cheetah"


@pytest.fixture(scope="module")
def model():
    return robot_model(f"{TASK}.xml")


@pytest.fixture
def states(model):
    return gait_states(model, TASK, 32)


@pytest.fixture(scope="module")
def sim(model):
    pytest.importorskip("warp", reason="needs warp-lang")
    return MjxWarpPhysics(model, FRAME_SKIP[TASK])


def start(states, index=np.s_[:]):
    return PhysicsState(*(jnp.asarray(x[index], jnp.float32) for x in states[:3])), jnp.asarray(
        states.ctrl[index], jnp.float32
    )


@pytest.fixture
def stepped(sim, states):
    return jax.jit(sim.step)(*start(states))


@pytest.mark.exhaustive
def test_one_env_step_is_c_mujocos(model, states, stepped):
    """The bound is float32's rounding, amplified by the contacts' stiffness; 1.6e-4 seen, the median is 5e-6."""
    qpos, qvel = converged_step(model, states, FRAME_SKIP[TASK])
    error = np.abs(stepped.qvel - qvel).max(axis=1)
    assert error.max() < 2e-3
    assert np.median(error) < 1e-4
    np.testing.assert_allclose(stepped.qpos, qpos, atol=1e-4)


def test_the_carried_state_is_enough_for_the_next_step(model, sim, states):
    """Two calls of one env step equal one call of two: nothing else of ``mjx.Data`` matters."""
    state, ctrl = start(states)
    step = jax.jit(sim.step)
    twice = step(step(state, ctrl), ctrl)
    at_once = jax.jit(MjxWarpPhysics(model, 2 * FRAME_SKIP[TASK]).step)(state, ctrl)
    np.testing.assert_allclose(twice.qvel, at_once.qvel, atol=2e-3)
    assert np.abs(twice.qacc_warmstart).max() > 0


def test_vmap_is_the_same_as_a_larger_batch(sim, states, stepped):
    nested = jax.tree.map(lambda x: x.reshape(4, 8, -1), start(states))
    out = jax.jit(jax.vmap(sim.step))(*nested)
    np.testing.assert_allclose(np.asarray(out.qvel).reshape(32, -1), stepped.qvel, atol=2e-3)


def test_running_out_of_rows_is_never_silent(model, states, sim):
    """Every world is right or NaN."""
    small = MjxWarpPhysics(model, FRAME_SKIP[TASK])
    small._max_rows = 8
    out = np.asarray(jax.jit(small.step)(*start(states)).qvel)
    lost = np.isnan(out).any(axis=1)
    assert 0 < lost.sum() < len(lost)
    np.testing.assert_allclose(out[~lost], np.asarray(jax.jit(sim.step)(*start(states)).qvel)[~lost], atol=2e-3)


def test_running_out_of_contacts_is_never_silent(model, states, sim):
    """The slots are shared: it cannot be known whose contact was dropped, so that every world is lost."""
    states.qpos[:, 1] -= 0.3  # several feet in the floor
    small = MjxWarpPhysics(model, 1)
    small._max_contacts = 1
    assert np.isnan(np.asarray(jax.jit(small.step)(*start(states)).qvel)).any(axis=1).all()


def test_bounds_cover_every_contact_and_row(model):
    """16 capsule ends on the floor, four pyramid edges each, and six joint limits (both sides counted)."""
    assert contact_and_row_bounds(model) == (16, 16 * 4 + 2 * 6)


def test_bounds_cover_what_c_mujoco_makes(model):
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    contacts, rows = contact_and_row_bounds(model)
    for _ in range(200):
        data.qpos[:] = rng.uniform(-1.5, 0.5, model.nq)
        mujoco.mj_forward(model, data)
        assert data.ncon <= contacts
        assert data.nefc <= rows


def test_missing_warp_is_one_line_that_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(UserError, match=r"pip install 'mjxppo\[warp\]'") as error:
        physics.make(model, backend="mjx-warp")
    assert "\n" not in str(error.value)
