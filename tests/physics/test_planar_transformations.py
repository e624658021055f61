"""The planar backend under JAX's transformations, and a world's independence of the others."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from planar_models import GYMNASIUM, LEG, gymnasium_model, gymnasium_worlds, hard_worlds, rollout_worlds

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar import PlanarPhysics


def setting_of(name):
    """A simulator and 512 worlds, some of them hard enough for the line search."""
    model = gymnasium_model(name)
    sim = PlanarPhysics(model, GYMNASIUM[name])
    worlds = gymnasium_worlds(name, 384) + hard_worlds(model, 128)
    worlds = worlds[np.random.default_rng(0).permutation(len(worlds))]
    state, ctrl = worlds.state()
    return sim, jax.jit(sim.step), state, ctrl


@pytest.fixture(scope="module", params=["hopper", pytest.param("half_cheetah", marks=pytest.mark.exhaustive)])
def setting(request):
    return setting_of(request.param)


@pytest.fixture(scope="module", params=["hopper", "half_cheetah"])
def both(request):
    """For what costs no program of its own."""
    return setting_of(request.param)


def bits(state):
    return [np.asarray(x).view(np.uint32) for x in jax.tree.leaves(state)]


def assert_same_bits(a, b):
    for x, y in zip(bits(a), bits(b), strict=True):
        np.testing.assert_array_equal(x, y)


def take(state, index):
    return jax.tree.map(lambda x: x[index], state)


@pytest.mark.parametrize("size", [0, 1, 300, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (7, 64))])
def test_a_worlds_result_does_not_depend_on_the_batch_size(setting, size):
    _, step, state, ctrl = setting
    alone = step(take(state, slice(size)), ctrl[:size])
    assert_same_bits(alone, take(step(state, ctrl), slice(size)))


@pytest.mark.exhaustive
def test_a_worlds_result_does_not_depend_on_its_neighbours(both):
    _, step, state, ctrl = both
    order = np.random.default_rng(3).permutation(len(ctrl))
    assert_same_bits(step(take(state, order), ctrl[order]), take(step(state, ctrl), order))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_worlds_that_are_not_finite_change_no_other(both, value):
    _, step, state, ctrl = both
    broken = np.zeros(len(ctrl), bool)
    broken[::5] = True
    column = jnp.asarray(broken)[:, None]
    spoiled = PhysicsState(
        qpos=jnp.where(column & (np.arange(state.qpos.shape[1]) == 2), value, state.qpos),
        qvel=state.qvel,
        qacc_warmstart=state.qacc_warmstart,
    )
    stepped = step(spoiled, ctrl)
    assert_same_bits(take(stepped, ~broken), take(step(state, ctrl), ~broken))
    assert not np.isfinite(np.asarray(stepped.qpos)[broken]).all(axis=1).any()


def assert_equal_up_to_rounding(a, b):
    """For two programs of different structure: XLA:CPU then contracts a * b + c to one rounding elsewhere.

    (With XLA_FLAGS=--xla_cpu_max_isa=AVX, which has no such instruction, these too agree to the bit.)
    """
    error = np.abs(np.asarray(a.qvel) - np.asarray(b.qvel)).max(axis=1)
    assert np.median(error) < 1e-5
    assert np.mean(error > 1e-2) < 0.01


def test_vmap_over_seeds_is_the_same(setting):
    sim, step, state, ctrl = setting
    seeds = jax.tree.map(lambda x: x.reshape(4, 128, -1), (state, ctrl))
    together = jax.jit(jax.vmap(sim.step))(*seeds)
    assert_equal_up_to_rounding(jax.tree.map(lambda x: x.reshape(512, -1), together), step(state, ctrl))


@pytest.mark.exhaustive
def test_scan_is_repeated_stepping(setting):
    sim, step, state, ctrl = setting
    scanned, _ = jax.jit(lambda s: jax.lax.scan(lambda s, _: (sim.step(s, ctrl), None), s, length=3))(state)
    repeated = state
    for _ in range(3):
        repeated = step(repeated, ctrl)
    np.testing.assert_allclose(scanned.qpos, repeated.qpos, rtol=0, atol=1e-4)


@pytest.mark.exhaustive
def test_sharding_over_devices_is_the_same(setting):
    """Any number of devices gives the bits of any other; without sharding up to the structure of the program."""
    if len(jax.devices()) < 4:
        pytest.skip("needs 4 devices")
    sim, step, state, ctrl = setting
    spec = PartitionSpec("worlds")
    results = []
    for devices in (2, 4):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("worlds",))
        sharded = jax.jit(jax.shard_map(sim.step, mesh=mesh, in_specs=(spec, spec), out_specs=spec))
        results.append(sharded(state, ctrl))
    assert_same_bits(*results)
    assert_equal_up_to_rounding(results[0], step(state, ctrl))


def test_blocks_change_no_bit():
    model = mujoco.MjModel.from_xml_string(LEG)
    state, ctrl = (rollout_worlds(model, 250, episode=20) + hard_worlds(model, 50)).state()
    whole = jax.jit(PlanarPhysics(model, 4, block_size=512).step)(state, ctrl)
    blocks = jax.jit(PlanarPhysics(model, 4, block_size=64).step)(state, ctrl)
    assert_same_bits(blocks, whole)
