"""The planar backend against C MuJoCo on Gymnasium's models."""

import jax.numpy as jnp
import mujoco
import numpy as np
import planar_models
import pytest
from planar_models import GYMNASIUM, errors, gymnasium_model, gymnasium_worlds, hard_worlds


@pytest.mark.parametrize("name", GYMNASIUM)
def test_one_step_agrees_with_c_in_float64_from_any_state(name):
    model = gymnasium_model(name)
    worlds = gymnasium_worlds(name, 400) + hard_worlds(model, 600)
    assert errors(model, worlds, 1).max() < 1e-10


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name != "half_cheetah")) for name in GYMNASIUM]
)
def test_one_environment_step_agrees_with_c_in_float32(name):
    """Median below 1e-5, fewer than one state in 10 000 above 1e-2."""
    worlds = gymnasium_worlds(name, 10_000)
    error = errors(gymnasium_model(name), worlds, GYMNASIUM[name], jnp.float32)
    assert np.median(error) < 1e-5
    assert np.sum(error > 1e-2) < 1, np.sort(error)[-5:]


@pytest.mark.parametrize(
    "name", ["half_cheetah", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("hopper", "walker2d_v5"))]
)
def test_hard_states_stay_close_in_float32(name):
    """Poses beyond all limits at high speed: rounding is amplified, but the solver does not give up."""
    model = gymnasium_model(name)
    worlds = hard_worlds(model, 1000)
    expected = planar_models.c_step(model, worlds, 1)[1]
    actual = planar_models.planar_step(model, worlds, 1, jnp.float32)[1]
    relative = np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))
    assert np.median(relative) < 1e-5
    # Rounding decides whether a row at the edge of its range exists, in a few states of a thousand.
    assert np.mean(relative > 1e-2) < 0.005


@pytest.mark.exhaustive
def test_running_far_away_costs_no_precision():
    """A kilometre from the origin the error is that near it, also in float32."""
    worlds = gymnasium_worlds("half_cheetah", 500)
    model = gymnasium_model("half_cheetah")
    _, near = planar_models.planar_step(model, worlds, 5, jnp.float32)
    far = planar_models.Worlds(worlds.qpos + 1000.0 * (np.arange(model.nq) == 0), *worlds.arrays()[1:])
    _, far_velocity = planar_models.planar_step(model, far, 5, jnp.float32)
    np.testing.assert_array_equal(far_velocity, near)


def test_hopper_states_include_self_contacts():
    """The states above exercise what they claim to: contacts with the floor and of the hopper with itself."""
    model, worlds = gymnasium_model("hopper"), hard_worlds(gymnasium_model("hopper"), 300)
    data = mujoco.MjData(model)
    floor, itself = 0, 0
    for qpos in worlds.qpos:
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        on_floor = (data.contact.geom == 0).any(axis=1) if data.ncon else np.zeros(0, bool)
        floor, itself = floor + on_floor.any(), itself + (~on_floor).any()
    assert floor > 20
    assert itself > 20


CROSSING = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body pos="0 0 1">
      <joint type="slide" axis="1 0 0"/> <joint type="hinge" axis="0 1 0" armature="0.1"/>
      <geom type="capsule" fromto="0.5 0 0 0.8 0 0" size="0.05"/>
    </body>
    <body pos="0 0 1">
      <joint type="slide" axis="0 0 1"/> <joint type="hinge" axis="0 1 0" armature="0.1"/>
      <geom type="capsule" fromto="0.5 0 0 1.2 0 0" size="0.04"/>
    </body>
  </worldbody>
</mujoco>
"""


def test_limbs_that_cross_at_a_small_angle_touch_as_in_c():
    model = mujoco.MjModel.from_xml_string(CROSSING)
    rng = np.random.default_rng(0)
    turn, place = rng.uniform(-1, 1, 512), rng.uniform(0.55, 0.75, 512)
    angle = rng.choice([-1, 1], 512) * 10.0 ** rng.uniform(-3.5, -1, 512)
    shift = -place * angle / np.cos(turn)
    qpos = np.stack([0 * turn, turn + angle, shift, turn], axis=1)
    worlds = planar_models.Worlds(qpos, rng.normal(size=(512, 4)), np.zeros((512, 4)), np.zeros((512, 0)))
    assert errors(model, worlds, 1).max() < 1e-9
