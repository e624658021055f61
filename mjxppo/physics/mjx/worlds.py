"""Worlds as MJX's functions take them: one model with one world's data, mapped over a block of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from mjxppo import xla
from mjxppo.physics.base import PhysicsState
from mjxppo.physics.mjx.capsule_pairs import has_capsule_pairs, with_capsule_pairs
from mjxppo.physics.mjx.model import constants
from mjxppo.physics.mjx.upright import has_capsules_on_planes, with_capsule_tangents
from mjxppo.physics.parameters import Parameters
from mjxppo.physics.worlds import map_blocks

Array = jax.Array

CPU_BLOCK = 256
"""Worlds stepped together on a CPU: small enough that their constraint rows stay in the cache."""

CPU_SPARE = 32
"""Copies of worlds that are computed at the end of a block and dropped. XLA:CPU vectorises MJX's loops over the worlds
with a scalar epilogue that takes up to the last 32 of them (LLVM's interleaved loads need it), and the two round
differently: a world's last bit would depend on its place in the block."""


class Worlds(NamedTuple):
    """N worlds of one model."""

    model: mjx.Model
    data: mjx.Data
    """MJX's data of one world, from which all fields come that the state does not carry."""
    parameters: Parameters
    """The fields of the model that each world has its own values of, [N, ...]."""
    on_cpu: bool
    """Whether the program is built for a CPU."""
    has_capsule_pairs: bool
    """Whether a capsule can touch another one, or a sphere."""
    has_capsules_on_planes: bool
    """Whether a capsule can touch a plane."""


def worlds_of(model: mujoco.MjModel, host: tuple[Any, Any], state: PhysicsState, platform: str | None = None) -> Worlds:
    """The model with the parameters of all worlds, in the precision of their state.

    ``host`` are ``host_constants(model)``, and ``platform`` is as for ``MjxPhysics``.
    """
    m, d = constants(host, state.qpos.dtype)
    own = {name: x.astype(state.qpos.dtype) for name, x in (state.parameters or {}).items()}
    capsules = has_capsule_pairs(model), has_capsules_on_planes(model)
    return Worlds(m, d, own, xla.platform(platform) == "cpu", *capsules)


def in_blocks(env_step: Callable[..., Any], worlds: Worlds, state: PhysicsState, ctrl: Array) -> Any:
    """``env_step(qpos, qvel, warmstart, ctrl, parameters)`` of all worlds, on a CPU a block at a time."""
    arrays = state.qpos, state.qvel, state.qacc_warmstart, ctrl, worlds.parameters
    return map_blocks(env_step, arrays, CPU_BLOCK) if worlds.on_cpu else env_step(*arrays)


def over_worlds(worlds: Worlds, one_world: Callable[..., tuple[Array, ...]], *arrays: Array) -> list[Array]:
    """The results of ``one_world(model, *arrays)`` for arrays [N, ...], [..., N]."""

    def own_world(own: Parameters, *arrays: Array) -> tuple[Array, ...]:
        return one_world(worlds.model.tree_replace(own) if own else worlds.model, *arrays)

    inputs: tuple[Any, ...] = (worlds.parameters, *arrays)
    if worlds.on_cpu:
        inputs = jax.tree.map(lambda x: jnp.concatenate([x, x[:CPU_SPARE]]), inputs)
    return [x[..., : arrays[0].shape[0]] for x in jax.vmap(own_world, out_axes=-1)(*inputs)]


def collision(worlds: Worlds, m: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The contacts of one world."""
    data = mjx.collision(m, data)
    if worlds.has_capsules_on_planes:
        data = with_capsule_tangents(m, data)
    return with_capsule_pairs(m, data) if worlds.has_capsule_pairs else data


def contact_forces(worlds: Worlds, qpos: Array, qvel: Array, qacc: Array) -> Array:
    """``cfrc_ext`` of N worlds, [N, nbody, 6], from qpos [N, nq], qvel and the acceleration qacc, [N, nv]."""

    def one_world(m: mjx.Model, qpos: Array, qvel: Array, qacc: Array) -> tuple[Array, ...]:
        data = worlds.data.replace(qpos=qpos, qvel=qvel)
        for stage in (mjx.kinematics, mjx.com_pos, mjx.tendon):
            data = stage(m, data)
        data = mjx.make_constraint(m, collision(worlds, m, data))
        impl: Any = data._impl
        # The forces of contacts; those of other rows are not read.
        force = jnp.maximum(-impl.efc_D * (impl.efc_J @ qacc - impl.efc_aref), 0)
        after: Any = mjx.rne_postconstraint(m, data.tree_replace({"_impl.efc_force": force}))._impl
        return (after.cfrc_ext,)

    return jnp.moveaxis(over_worlds(worlds, one_world, qpos, qvel, qacc)[0], -1, 0)
