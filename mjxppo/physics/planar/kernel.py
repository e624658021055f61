"""One environment step as one GPU kernel (JAX Pallas, lowered to Triton).

Each program of the grid loads a few worlds, takes all MuJoCo steps of the frame skip with their state in registers,
and stores them. It calls the functions of the batched program, which are elementwise over worlds and work on any
number of them. Only memory traffic and kernel launches differ: two passes over 100 bytes a world and one launch, where
the batched program has hundreds of both in every MuJoCo step.

A program leaves the solver's loop as soon as its own worlds have converged, and nothing waits for the host.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate, islice
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.integrate import step
from mjxppo.physics.maths import separate_arrays
from mjxppo.physics.planar.backend import DYNAMICS
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.solver import minimize


def kernel_step(
    model: PlanarModel,
    frame_skip: int,
    state: PhysicsState,
    ctrl: jax.Array,
    worlds: int,
    warps: int,
    interpret: bool = False,
) -> PhysicsState:
    """Advances N worlds, at least one, by ``frame_skip`` MuJoCo steps under controls [N, nu] in one kernel.

    The model's scalars are constants or arrays [N]. One program of the kernel has ``worlds`` worlds, a power of two,
    and ``warps`` groups of 32 threads. ``interpret`` runs the kernel's operations with XLA, on any device.
    """
    num_worlds = ctrl.shape[0]
    own, rebuild = separate_arrays(model)
    columns = (state.qpos, state.qvel, state.qacc_warmstart)
    widths = [x.shape[1] for x in (*columns, ctrl)]
    # One array in and one out: XLA has one kernel for each, and Triton compiles ten times faster, because for every
    # load and store it searches the whole program for others that it has to do with.
    together = jnp.concatenate([*columns, ctrl, *(x[:, None] for x in own)], axis=-1)
    inputs, outputs = (pl.next_power_of_2(n) for n in (together.shape[1], sum(widths[:3])))

    def program(read: Any, written: Any) -> None:
        # Lanes beyond the last world repeat it, and store the same numbers once more.
        world = jnp.minimum(pl.program_id(0) * worlds + lax.iota(jnp.int32, worlds), num_worlds - 1)[:, None]
        column = jnp.minimum(lax.iota(jnp.int32, inputs), together.shape[1] - 1)[None]
        loaded = iter(_split(triton.load(read.at[world, column])))
        *start, controls = (list(islice(loaded, n)) for n in widths)
        worlds_model = rebuild(list(loaded))
        solver = partial(minimize, keep_residuals=False)
        stepped = lax.fori_loop(
            0, frame_skip, lambda _, s: step(DYNAMICS, worlds_model, s, controls, solver), tuple(start)
        )
        values = [x for part in stepped for x in part]
        values += [jnp.zeros_like(values[0])] * (outputs - len(values))
        triton.store(written.at[world, lax.iota(jnp.int32, outputs)[None]], _join(values))

    out = pl.pallas_call(
        program,
        # As the input, it varies over the axes of the mesh under ``shard_map``.
        out_shape=jax.ShapeDtypeStruct(
            (num_worlds, outputs), together.dtype, manual_axis_type=jax.typeof(together).manual_axis_type
        ),
        grid=(pl.cdiv(num_worlds, worlds),),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name="planar_step",
    )(together)
    qpos, qvel, qacc_warmstart, _ = jnp.split(out, list(accumulate(widths[:3])), axis=-1)
    return PhysicsState(qpos, qvel, qacc_warmstart)


def _split(x: jax.Array) -> list[jax.Array]:
    """The columns of ``x`` [worlds, n], n a power of two."""
    return [part[:, 0] for part in jnp.split(x, x.shape[1], axis=1)]


def _join(columns: list[jax.Array]) -> jax.Array:
    """The array [worlds, n] of n columns [worlds], n a power of two. Triton joins two arrays along a new last axis."""
    if len(columns) == 1:
        return columns[0][:, None]
    even, odd = _join(columns[::2]), _join(columns[1::2])
    return jnp.concatenate([even[..., None], odd[..., None]], axis=-1).reshape(-1, len(columns))
