"""Worlds with parameters of their own, in the planar backend, against C MuJoCo on each world's own model."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY
from hypothesis import given
from jax.sharding import PartitionSpec
from parameter_cases import c_step_of_each, random_parameters, random_sizes
from planar_generated import generated, planar_models
from planar_models import Worlds, gymnasium_model, gymnasium_worlds, hard_worlds, rollout_worlds

from mjxppo import physics
from mjxppo.errors import UserError
from mjxppo.physics.parameters import FIELDS, nominal
from mjxppo.physics.planar import PlanarPhysics

COUNT = 64


def step_of_each(model: mujoco.MjModel, fields: dict[str, np.ndarray], worlds: Worlds, steps: int) -> np.ndarray:
    with jax.enable_x64(True):
        sim = PlanarPhysics(model, steps)
        start, ctrl = worlds.state(jnp.float64)

        def run(fields, start, ctrl):
            own = sim.init(start.qpos, start.qvel, physics.set_const(model, fields))
            return sim.step(own.replace(qacc_warmstart=start.qacc_warmstart), ctrl)

        return np.asarray(jax.jit(run, compiler_options=QUICKLY)(fields, start, ctrl).qvel)


def relative_error(model: mujoco.MjModel, fields: dict[str, np.ndarray], worlds: Worlds, steps: int) -> float:
    expected = c_step_of_each(model, fields, worlds, steps)
    actual = step_of_each(model, fields, worlds, steps)
    return (np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))).max()


@pytest.mark.parametrize("name", ["half_cheetah", "hopper", pytest.param("walker2d_v5", marks=pytest.mark.exhaustive)])
def test_every_world_is_c_mujoco_on_its_own_model(name):
    model = gymnasium_model(name)
    worlds = gymnasium_worlds(name, 400)[-COUNT:] + hard_worlds(model, COUNT)
    assert relative_error(model, random_parameters(model, len(worlds)), worlds, 1) < 1e-9


@pytest.mark.parametrize("name", ["hopper", "half_cheetah"])
def test_every_world_is_c_mujoco_on_its_own_model_of_other_sizes(name):
    model = gymnasium_model(name)
    worlds = gymnasium_worlds(name, 400)[-COUNT:] + hard_worlds(model, COUNT)
    assert relative_error(model, random_sizes(model, len(worlds)), worlds, 1) < 1e-9


@generated(max_examples=3)
@given(xml=planar_models())
def test_every_world_of_a_generated_model_is_c_mujoco_on_its_own_model(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    fields = random_parameters(model, COUNT)
    if (model.body_simple & (model.body_dofnum > 0)).any():
        fields.pop("body_ipos")  # C MuJoCo refuses to move the centre of mass of a body that it compiled as simple.
    worlds = hard_worlds(model, COUNT // 2) + rollout_worlds(model, COUNT // 2, steps=3)
    assert relative_error(model, fields, worlds, 1) < 1e-9


JUMPER = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom type="plane" size="5 5 1" condim="3"/>
    <body pos="0 0 0.6">
      <joint type="slide" axis="0 0 1" damping="0.5"/>
      <geom type="capsule" size="0.05" fromto="0 0 0 0 0 0.2"/>
      <body> <joint name="leg" axis="0 1 0" limited="true" range="-60 60" damping="0.3" stiffness="5" armature="0.01"/>
        <geom type="capsule" size="0.04" fromto="0 0 0 0.1 0 -0.5" condim="3" friction="0.8"/>
      </body>
    </body>
  </worldbody>
  <actuator> <motor joint="leg" gear="20" ctrlrange="-1 1" ctrllimited="true"/> </actuator>
</mujoco>
"""
"""A leg on a vertical rail: small enough to compile in no time."""


@pytest.fixture(scope="module")
def jumpers():
    """A jitted step in float32, and 300 jumpers of different make, half of them on the floor."""
    model = mujoco.MjModel.from_xml_string(JUMPER)
    sim = PlanarPhysics(model, 4, block_size=64)
    fields = {name: np.float32(value) for name, value in random_parameters(model, 300).items()}
    state, ctrl = rollout_worlds(model, 300).state()
    return sim, jax.jit(sim.step), state.replace(parameters=physics.set_const(model, fields)), ctrl


def take(state, index):
    return jax.tree.map(lambda x: x[index], state)


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x).view(np.uint32), np.asarray(y).view(np.uint32))


def test_a_world_with_parameters_depends_neither_on_its_neighbours_nor_on_their_number(jumpers):
    _, step, state, ctrl = jumpers
    together = step(state, ctrl)
    assert_same_bits(step(take(state, slice(20)), ctrl[:20]), take(together, slice(20)))
    order = np.random.default_rng(0).permutation(len(ctrl))
    assert_same_bits(step(take(state, order), ctrl[order]), take(together, order))


def test_a_step_leaves_parameters_as_they_are(jumpers):
    _, step, state, ctrl = jumpers
    assert_same_bits(step(state, ctrl).parameters, state.parameters)


def test_worlds_with_parameters_under_vmap_and_shard_map(jumpers):
    sim, step, state, ctrl = jumpers
    expected = step(state, ctrl)
    seeds = jax.tree.map(lambda x: x.reshape(3, 100, *x.shape[1:]), (state, ctrl))
    together = jax.tree.map(lambda x: x.reshape(300, *x.shape[2:]), jax.jit(jax.vmap(sim.step))(*seeds))
    spec, mesh = PartitionSpec("worlds"), jax.sharding.Mesh(np.array(jax.devices()[:2]), ("worlds",))
    sharded = jax.jit(jax.shard_map(sim.step, mesh=mesh, in_specs=(spec, spec), out_specs=spec))(state, ctrl)
    for other in (together, sharded):
        error = np.abs(np.asarray(other.qvel) - np.asarray(expected.qvel)).max(axis=1)
        assert np.median(error) < 1e-5
        assert np.mean(error > 1e-2) < 0.02


def test_the_models_own_values_as_parameters_change_nothing_but_rounding():
    model = mujoco.MjModel.from_xml_string(JUMPER)
    worlds = rollout_worlds(model, 100)
    fields = {name: np.repeat(nominal(model, name)[None], 100, axis=0) for name in FIELDS if nominal(model, name).size}
    with jax.enable_x64(True):
        sim = PlanarPhysics(model, 1)
        state, ctrl = worlds.state(jnp.float64)
        step = jax.jit(sim.step)
        own = step(state.replace(parameters=jax.tree.map(jnp.asarray, fields)), ctrl)
        np.testing.assert_allclose(own.qvel, step(state, ctrl).qvel, rtol=0, atol=1e-10)


def test_a_derivative_with_respect_to_a_mass_is_that_of_finite_differences():
    model = mujoco.MjModel.from_xml_string(JUMPER)
    worlds = rollout_worlds(model, 20)[10:11]
    with jax.enable_x64(True):
        sim = PlanarPhysics(model, 2)
        state, ctrl = worlds.state(jnp.float64)

        @jax.jit
        def speed(factor):
            own = physics.set_const(model, {"body_mass": factor * jnp.asarray(model.body_mass[None])})
            return sim.step(state.replace(parameters=own), ctrl).qvel.sum()

        difference = (speed(1.0 + 1e-6) - speed(1.0 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(speed)(1.0), difference, rtol=1e-5)


def test_parameters_that_cannot_be_are_refused():
    model = gymnasium_model("hopper")
    sim = PlanarPhysics(model, 4)
    qpos, qvel = np.zeros((2, model.nq)), np.zeros((2, model.nv))
    with pytest.raises(UserError, match=r"^parameters: geom_quat cannot differ between worlds; opt\.gravity"):
        sim.init(qpos, qvel, {"geom_quat": np.zeros((2, model.ngeom, 4))})
    with pytest.raises(ValueError, match=r"parameters\['body_mass'\] must be \[2, 5\], not \[2, 4\]"):
        sim.init(qpos, qvel, {"body_mass": np.zeros((2, 4))})


SKATES = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.09">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 0 1"/>
      <geom size="0.1" pos="-0.3 0 0"/>
      <geom size="0.1" pos="0.3 0 0"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_body_whose_centre_of_mass_has_moved_touches_the_floor_in_c_too(shift):
    """MuJoCo's bounding boxes of a body with several geoms are relative to its centre of mass."""
    model = mujoco.MjModel.from_xml_string(SKATES)
    model.body_simple[:] = 0
    moved = physics.modified_model(model, {"body_ipos": model.body_ipos + [0, 0, shift]})
    data = mujoco.MjData(moved)
    mujoco.mj_forward(moved, data)
    assert data.ncon == 2
