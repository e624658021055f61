"""The environment step in three dimensions as one GPU kernel: it lowers for CUDA, and interpreted it agrees with C."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY, lowered_for_cuda
from parameter_cases import random_parameters
from planar_models import LEG, Worlds, c_step
from spatial_models import TOP, TUMBLER, WRESTLERS, tumbler, tumbling_worlds

from mjxppo import envs, physics
from mjxppo.errors import UserError
from mjxppo.physics import PhysicsState
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.pallas_backend import KERNELS, PlanarPallasPhysics, SpatialPallasPhysics
from mjxppo.physics.spatial import SpatialPhysics

needs_interpreter = pytest.mark.skipif(
    compiler_aborts(), reason="XLA of this JAX aborts on interpreted kernels with multi-output fusion"
)
MODELS = {
    "euler": TUMBLER.format(integrator="Euler", tilt="0 0 0"),
    "rk4": TUMBLER.format(integrator="RK4", tilt="5 3 0"),
    "medium": TOP,
    "pairs": WRESTLERS,
}


def without_actuators(xml: str) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(xml)
    for actuator in list(spec.actuators):
        spec.delete(actuator)
    return spec.compile()


def random_worlds(name: str, count: int) -> tuple[mujoco.MjModel, Worlds]:
    model = mujoco.MjModel.from_xml_string(MODELS[name])
    return model, tumbling_worlds(model, count)


@needs_interpreter
@pytest.mark.parametrize(
    "name", ["medium", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("euler", "rk4", "pairs"))]
)
def test_the_interpreted_kernel_agrees_with_c_in_float64(name):
    """On 40 worlds, no multiple of the kernel's 32, in two steps."""
    model, worlds = random_worlds(name, 40)
    _, expected = c_step(model, worlds, 2)
    with jax.enable_x64(True):
        sim = SpatialPallasPhysics(model, 2, interpret=True)
        stepped = jax.jit(sim.step, compiler_options=QUICKLY)(*worlds.state(jnp.float64))
    error = np.abs(np.asarray(stepped.qvel) - expected).max(axis=1) / np.maximum(1, np.abs(expected).max(axis=1))
    assert error.max() < 1e-9


@pytest.mark.exhaustive
@needs_interpreter
@pytest.mark.parametrize("integrator", ["Euler", "RK4"])
def test_contact_forces_are_those_of_the_batched_program(integrator):
    """Also of worlds that have parameters of their own."""
    model = tumbler(integrator)
    worlds = tumbling_worlds(model, 40)
    with jax.enable_x64(True):
        state, ctrl = worlds.state(jnp.float64)
        of_kernel, batched = SpatialPallasPhysics(model, 2, interpret=True), SpatialPhysics(model, 2)
        own = physics.set_const(model, random_parameters(model, 40))
        start = batched.init(state.qpos, state.qvel, own)
        (moved, forces), (expected, of_batched) = (
            jax.device_get(jax.jit(sim.step_with_contact_forces, compiler_options=QUICKLY)(start, ctrl))
            for sim in (of_kernel, batched)
        )
    assert np.abs(of_batched.cfrc_ext).max() > 1
    scale = np.maximum(1, np.abs(of_batched.cfrc_ext).max(axis=(1, 2), keepdims=True))
    assert np.abs((forces.cfrc_ext - of_batched.cfrc_ext) / scale).max() < 1e-8
    np.testing.assert_allclose(moved.qpos, expected.qpos, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(forces.qpos, of_batched.qpos, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["reacher", "swimmer", "quadruped", "ant"])
def test_the_step_of_a_shipped_task_lowers_to_one_triton_kernel(name):
    sim = envs.make(name, platform="gpu").task.physics
    assert sim.name == "spatial-pallas"
    model = sim.model
    qpos, qvel, ctrl = (jax.ShapeDtypeStruct((1000, n), jnp.float32) for n in (model.nq, model.nv, model.nu))
    text = lowered_for_cuda(sim.step, PhysicsState(qpos, qvel, qvel), ctrl)
    assert text.count("stablehlo.custom_call") == text.count("__gpu$xla.gpu.triton") == 1
    assert "stablehlo.while" not in text


def test_worlds_with_parameters_of_their_own_lower_too():
    model, worlds = random_worlds("euler", 64)
    sim = SpatialPallasPhysics(model, 2, platform="gpu")
    state, ctrl = worlds.state()
    own = sim.init(state.qpos, state.qvel, physics.set_const(model, random_parameters(model, 64)))
    assert lowered_for_cuda(sim.step, own, ctrl).count("__gpu$xla.gpu.triton") == 1


@pytest.mark.parametrize("kind", list(KERNELS.values()))
def test_a_model_without_actuators_under_vmap_is_one_kernel(kind):
    model = without_actuators(LEG if kind is PlanarPallasPhysics else WRESTLERS)
    sim = kind(model, platform="gpu")
    qpos, qvel, ctrl = (jax.ShapeDtypeStruct((3, 16, n), jnp.float32) for n in (model.nq, model.nv, 0))
    moved = jax.eval_shape(jax.vmap(sim.step), PhysicsState(qpos, qvel, qvel), ctrl)
    assert moved.qpos.shape == (3, 16, model.nq)


@pytest.mark.exhaustive
@needs_interpreter
def test_derivatives_are_those_of_the_batched_program():
    model, worlds = random_worlds("medium", 8)
    state, ctrl = worlds.state()
    slopes = [
        jax.jit(jax.grad(lambda qvel, sim=sim: sim.step(state.replace(qvel=qvel), ctrl).qpos.sum()))(state.qvel)
        for sim in (SpatialPallasPhysics(model, 2, interpret=True), SpatialPhysics(model, 2))
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(48, 1), (0, 1), (32, 3), (-32, 1)])
def test_sizes_that_a_kernel_cannot_have_are_refused(sizes):
    with pytest.raises(UserError, match="a power of two"):
        SpatialPallasPhysics(mujoco.MjModel.from_xml_string(TOP), 1, *sizes)


def test_without_a_gpu_it_is_the_batched_program():
    model, worlds = random_worlds("medium", 8)
    sim = SpatialPallasPhysics(model)
    assert sim.name == "spatial" and not sim.in_kernel
    stepped = jax.jit(sim.step, compiler_options=QUICKLY)(*worlds.state())
    expected = jax.jit(SpatialPhysics(model).step, compiler_options=QUICKLY)(*worlds.state())
    np.testing.assert_array_equal(stepped.qvel, expected.qvel)
