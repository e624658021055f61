"""One environment step as one GPU kernel (JAX Pallas, lowered to Triton).

Each program of the grid loads a few worlds, takes all MuJoCo steps of the frame skip with their state in registers,
and stores them. It calls the functions of the batched program, which are elementwise over worlds and work on any
number of them. Only memory traffic and kernel launches differ: a few hundred bytes a world are read and written once,
with one launch, where the batched program has hundreds of passes and launches in every MuJoCo step.

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
from mjxppo.physics.integrate import Dynamics, step, step_and_evaluation
from mjxppo.physics.maths import separate_arrays
from mjxppo.physics.problem import Arrays
from mjxppo.physics.solver import minimize


def kernel_step(
    dynamics: Dynamics,
    model: Any,
    frame_skip: int,
    state: PhysicsState,
    ctrl: jax.Array,
    worlds: int,
    warps: int,
    interpret: bool = False,
    keep_evaluation: bool = False,
) -> tuple[PhysicsState, tuple[jax.Array, ...]]:
    """Advances N worlds, at least one, by ``frame_skip`` MuJoCo steps under controls [N, nu] in one kernel.

    The model's scalars are constants or arrays [N]. One program of the kernel has ``worlds`` worlds, a power of two,
    and ``warps`` groups of 32 threads. ``interpret`` runs the kernel's operations with XLA, on any device.

    Returns the state, and with ``keep_evaluation`` qpos [N, nq] and qvel [N, nv] at which the dynamics were last
    evaluated (see ``step_and_evaluation``), else nothing.
    """
    num_worlds = ctrl.shape[0]
    own, rebuild = separate_arrays(model)
    columns = (state.qpos, state.qvel, state.qacc_warmstart)
    widths = [x.shape[1] for x in (*columns, ctrl)]
    written_widths = widths[:3] + (widths[:2] if keep_evaluation else [])
    # One array in and one out: XLA packs and unpacks with one kernel each. Triton's compile time grows with the number
    # of loads and stores, because for each it searches the whole program.
    together = jnp.concatenate([*columns, ctrl, *(x[:, None] for x in own)], axis=-1)
    num_read, num_written = (pl.next_power_of_2(n) for n in (together.shape[1], sum(written_widths)))

    def program(read: Any, written: Any) -> None:
        # Lanes beyond the last world repeat it, and store the same numbers once more.
        world = jnp.minimum(pl.program_id(0) * worlds + lax.iota(jnp.int32, worlds), num_worlds - 1)[:, None]
        column = jnp.minimum(lax.iota(jnp.int32, num_read), together.shape[1] - 1)[None]
        loaded = iter(_split(triton.load(read.at[world, column])))
        *start, controls = (list(islice(loaded, n)) for n in widths)
        moved = _all_steps(
            dynamics, rebuild(list(islice(loaded, len(own)))), frame_skip, start, controls, keep_evaluation
        )
        values = [x for part in moved for x in part]
        values += [jnp.zeros_like(values[0])] * (num_written - len(values))
        triton.store(written.at[world, lax.iota(jnp.int32, num_written)[None]], _join(values))

    out = pl.pallas_call(
        program,
        # As the input, it varies over the axes of the mesh under ``shard_map``.
        out_shape=jax.ShapeDtypeStruct(
            (num_worlds, num_written), together.dtype, manual_axis_type=jax.typeof(together).manual_axis_type
        ),
        grid=(pl.cdiv(num_worlds, worlds),),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name="physics_step",
    )(together)
    qpos, qvel, qacc_warmstart, *evaluation, _ = jnp.split(out, list(accumulate(written_widths)), axis=-1)
    return PhysicsState(qpos, qvel, qacc_warmstart), tuple(evaluation)


def _all_steps(
    dynamics: Dynamics, model: Any, frame_skip: int, start: list[Arrays], ctrl: Arrays, keep_evaluation: bool
) -> tuple[Arrays, ...]:
    """qpos, qvel and warm start after all MuJoCo steps, then qpos and qvel of the last evaluation if they are kept."""
    solver = partial(minimize, keep_residuals=False)

    def one_step(_: Any, carry: Any) -> Any:
        if keep_evaluation:
            return step_and_evaluation(dynamics, model, carry[0], ctrl, solver)
        return step(dynamics, model, carry[0], ctrl, solver), ()

    begin = tuple(start), (tuple(start[:2]) if keep_evaluation else ())
    moved, evaluation = lax.fori_loop(0, frame_skip, one_step, begin)
    return *moved, *evaluation


def _split(x: jax.Array) -> list[jax.Array]:
    """The columns of ``x`` [worlds, n], n a power of two."""
    return [part[:, 0] for part in jnp.split(x, x.shape[1], axis=1)]


def _join(columns: list[jax.Array]) -> jax.Array:
    """The array [worlds, n] of n columns [worlds], n a power of two. Triton joins two arrays along a new last axis."""
    if len(columns) == 1:
        return columns[0][:, None]
    even, odd = _join(columns[::2]), _join(columns[1::2])
    return jnp.concatenate([even[..., None], odd[..., None]], axis=-1).reshape(-1, len(columns))
