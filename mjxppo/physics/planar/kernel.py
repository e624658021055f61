"""One environment step as one GPU kernel (JAX Pallas, lowered to Triton).

Each program of the grid loads a few worlds, takes all MuJoCo steps of the frame skip with their state in registers,
and stores them. It calls the functions of the batched program, which are elementwise over worlds and work on any
number of them. Only memory traffic and kernel launches differ: two passes over 100 bytes a world and one launch, where
the batched program has hundreds of both in every MuJoCo step.

A program leaves the solver's loop as soon as its own worlds have converged, and nothing waits for the host.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
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
    # One array: XLA fills it with one kernel, where each of four would need its own.
    together = jnp.concatenate([*columns, ctrl], axis=-1)

    def program(*refs: Any) -> None:
        own_refs, inputs, outputs = refs[: len(own)], refs[len(own)], refs[-3:]
        # Lanes beyond the last world repeat it, and store the same numbers once more.
        world = jnp.minimum(pl.program_id(0) * worlds + lax.iota(jnp.int32, worlds), num_worlds - 1)
        worlds_model = rebuild([triton.load(x.at[world]) for x in own_refs])
        loaded = (triton.load(inputs.at[world, i]) for i in range(together.shape[1]))
        *start, controls = (list(islice(loaded, x.shape[1])) for x in (*columns, ctrl))
        solver = partial(minimize, keep_residuals=False)
        stepped = lax.fori_loop(
            0, frame_skip, lambda _, s: step(DYNAMICS, worlds_model, s, controls, solver), tuple(start)
        )
        for ref, values in zip(outputs, stepped, strict=True):
            for i, value in enumerate(values):
                triton.store(ref.at[world, i], value)

    out = pl.pallas_call(
        program,
        out_shape=[_like(x) for x in columns],
        grid=(pl.cdiv(num_worlds, worlds),),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name="planar_step",
    )(*own, together)
    return PhysicsState(*out)


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
    """The type of ``x``, with the mesh axes over which it varies under ``shard_map``."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, manual_axis_type=jax.typeof(x).manual_axis_type)
