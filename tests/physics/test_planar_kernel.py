"""The environment step as one GPU kernel: it lowers for CUDA, and interpreted it does what the batched program does."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY, lowered_for_cuda
from jax.sharding import Mesh, PartitionSpec
from parameter_cases import random_parameters
from planar_models import GYMNASIUM, LEG, c_step, gymnasium_model, gymnasium_worlds, hard_worlds, rollout_worlds

from mjxppo import physics
from mjxppo.physics import PhysicsState
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.pallas_backend import PlanarPallasPhysics
from mjxppo.physics.planar import PlanarPhysics


def shapes(model: mujoco.MjModel, count: int) -> tuple[PhysicsState, jax.ShapeDtypeStruct]:
    qpos, qvel, ctrl = (jax.ShapeDtypeStruct((count, n), jnp.float32) for n in (model.nq, model.nv, model.nu))
    return PhysicsState(qpos, qvel, qvel), ctrl


@pytest.mark.parametrize("name", GYMNASIUM)
def test_the_step_lowers_to_one_triton_kernel(name):
    model = gymnasium_model(name)
    sim = PlanarPallasPhysics(model, GYMNASIUM[name], platform="gpu")
    text = lowered_for_cuda(sim.step, *shapes(model, 1000))
    assert text.count("stablehlo.custom_call") == 1
    assert "custom_call @__gpu$xla.gpu.triton" in text
    assert "num_warps = 1 : i32" in text
    assert "grid_x = 32 : i32" in text
    assert "stablehlo.while" not in text


def error_to_c(model, worlds, qvel, steps):
    expected = c_step(model, worlds, steps)[1]
    return np.abs(np.asarray(qvel) - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))


@pytest.mark.parametrize("name", GYMNASIUM)
def test_on_a_gpu_the_batched_program_waits_for_the_host_once_per_solve_only(name):
    """No branches, and of its loops only the last stage's has a number of rounds that is not known beforehand."""
    model = gymnasium_model(name)
    sim = PlanarPhysics(model, GYMNASIUM[name], platform="gpu")
    text = lowered_for_cuda(sim.step, *shapes(model, 100))
    assert "stablehlo.case" not in text
    conditions = re.findall(r"stablehlo.while.*?cond \{(.*?)\} do", text, re.DOTALL)
    known = [c.count("stablehlo.") == 3 and "stablehlo.compare" in c for c in conditions]
    assert known.count(False) == 1


needs_interpreter = pytest.mark.skipif(
    compiler_aborts(), reason="XLA of this JAX aborts on interpreted kernels with multi-output fusion"
)


@needs_interpreter
@pytest.mark.parametrize("name", ["half_cheetah", "hopper", pytest.param("walker2d_v5", marks=pytest.mark.exhaustive)])
def test_the_interpreted_kernel_agrees_with_c_in_float64(name):
    """On 90 worlds (no multiple of the kernel's 32), a third of them hard."""
    model = gymnasium_model(name)
    worlds = gymnasium_worlds(name, 60) + hard_worlds(model, 30)
    with jax.enable_x64(True):
        sim = PlanarPallasPhysics(model, 1, interpret=True)
        stepped = jax.jit(sim.step, compiler_options=QUICKLY)(*worlds.state(jnp.float64))
        assert error_to_c(model, worlds, stepped.qvel, 1).max() < 1e-10


@pytest.fixture(scope="module")
def leg():
    """A small robot, the kernel for three steps of it, interpreted, and 100 worlds, a fifth of them hard."""
    model = mujoco.MjModel.from_xml_string(LEG)
    worlds = rollout_worlds(model, 80, episode=20) + hard_worlds(model, 20)
    return model, PlanarPallasPhysics(model, 3, interpret=True), worlds


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@needs_interpreter
def test_in_float32_too_it_is_close_to_c_and_to_the_batched_program(leg):
    model, sim, worlds = leg
    state, ctrl = worlds.state()
    kernel = jax.jit(sim.step)(state, ctrl)
    assert np.median(error_to_c(model, worlds, kernel.qvel, 3)) < 1e-5
    batched = jax.jit(PlanarPhysics(model, 3).step)(state, ctrl)
    # Up to rounding: XLA contracts a * b + c to one rounding in other places.
    assert np.median(np.abs(kernel.qvel - batched.qvel)) < 1e-5
    assert np.mean(np.abs(kernel.qvel - batched.qvel).max(axis=1) > 1e-3) < 0.03


@needs_interpreter
@pytest.mark.parametrize("block", [8, 64])
def test_a_worlds_result_depends_neither_on_the_batch_nor_on_the_blocks(leg, block):
    model, sim, worlds = leg
    state, ctrl = worlds.state()
    together = jax.jit(sim.step)(state, ctrl)
    order = np.random.default_rng(0).permutation(len(ctrl))[:90]
    other = PlanarPallasPhysics(model, 3, worlds=block, interpret=True)
    shuffled = jax.jit(other.step)(jax.tree.map(lambda x: x[order], state), ctrl[order])
    assert_same_bits(jax.tree.map(lambda x: x[order], together), shuffled)


def with_own_parameters(model, sim, worlds):
    state, ctrl = worlds.state()
    fields = random_parameters(model, len(worlds))
    own = sim.init(state.qpos, state.qvel, physics.set_const(model, fields))
    return own.replace(qacc_warmstart=state.qacc_warmstart), ctrl


@needs_interpreter
def test_worlds_may_have_parameters_of_their_own(leg):
    model, sim, worlds = leg
    state, ctrl = with_own_parameters(model, sim, worlds)
    batched = jax.jit(PlanarPhysics(model, 3).step)(state, ctrl)
    kernel = jax.jit(sim.step)(state, ctrl)
    difference = np.abs(kernel.qvel - batched.qvel).max(axis=1)
    assert np.median(difference) < 1e-5
    assert np.mean(difference > 1e-3) < 0.05
    assert np.median(np.abs(batched.qvel - jax.jit(sim.step)(*worlds.state()).qvel)) > 1e-2


def test_worlds_with_parameters_of_their_own_lower_too():
    model = gymnasium_model("hopper")
    sim = PlanarPallasPhysics(model, 4, platform="gpu")
    text = lowered_for_cuda(sim.step, *with_own_parameters(model, sim, gymnasium_worlds("hopper", 64)))
    assert text.count("__gpu$xla.gpu.triton") == 1


@pytest.mark.exhaustive
@needs_interpreter
def test_it_works_under_vmap_scan_and_shard_map(leg):
    _, sim, worlds = leg
    state, ctrl = worlds.state()
    step = jax.jit(sim.step)
    once = step(state, ctrl)
    seeds = jax.tree.map(lambda x: x.reshape(4, 25, -1), (state, ctrl))
    batched = jax.jit(jax.vmap(sim.step))(*seeds)
    assert_same_bits(jax.tree.map(lambda x: x.reshape(100, -1), batched), once)
    scanned, _ = jax.jit(lambda s: jax.lax.scan(lambda s, _: (sim.step(s, ctrl), None), s, length=2))(state)
    assert_same_bits(scanned, step(once, ctrl))
    spec, mesh = PartitionSpec("worlds"), Mesh(np.array(jax.devices()[:2]), ("worlds",))
    sharded = jax.shard_map(sim.step, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False)
    assert_same_bits(jax.jit(sharded)(state, ctrl), once)


@pytest.mark.exhaustive
@needs_interpreter
def test_its_derivatives_are_those_of_the_batched_program(leg):
    model, sim, worlds = leg
    state, ctrl = worlds[:80].state()

    def speed(ctrl, sim):
        return jnp.sum(sim.step(state, ctrl).qvel[:, 3])

    kernel, batched = (jax.jit(jax.grad(speed), static_argnums=1)(ctrl, s) for s in (sim, PlanarPhysics(model, 3)))
    assert np.abs(batched).max() > 1e-3
    np.testing.assert_allclose(kernel, batched, rtol=1e-4, atol=1e-6)
