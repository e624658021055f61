"""Newton's method on the primal problem (MuJoCo documentation, Computation: "Newton solver").

The cost is piecewise quadratic, and the warm start is near the solution: a full Newton step reaches it as soon as no
row changes sides, almost always within three steps. So a batch takes

1. ``FIXED_STEPS`` full Newton steps, without a test;
2. full Newton steps until every world has converged, at most ``FULL_STEPS`` in all;
3. Newton steps with a line search, which cannot cycle, until every world has, at most ``MAX_STEPS`` in all.

A world that has converged is frozen: its result does not depend, by a bit, on the other worlds or on the batch's size.
A world that is not finite counts as converged.
"""

from __future__ import annotations

import operator
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.physics.maths import as_array, dot, total
from mjxppo.physics.problem import Arrays, Model, Problem, Residuals
from mjxppo.physics.sparse import factorize, solve

FIXED_STEPS, FULL_STEPS, MAX_STEPS = 3, 6, 32
LINE_SEARCH_STEPS = 6
_BITS = 31

State = tuple[Arrays, Residuals | None]
"""An acceleration and its residuals; None: they are computed again where they are needed."""
Carry = tuple[int | jax.Array, State, jax.Array]
"""Number of steps taken, where they led, and which worlds have not converged."""


def tolerance(model: Model, dtype: jnp.dtype) -> float:
    """The predicted decrease of the cost below which a world has converged.

    In float32 MuJoCo's own default (1e-8 mean inertia times nv, on half the predicted decrease); in float64
    rounding error.
    """
    relative = 1e-22 if dtype == jnp.float64 else 2e-8
    return relative * model.mean_inertia * model.nv


def newton_direction(model: Model, problem: Problem, qacc: Arrays, residual: Residuals) -> tuple[Arrays, jax.Array]:
    """The Newton step at ``qacc`` and the cost's slope along it (minus twice the predicted decrease)."""
    gradient, hessian = problem.gradient_and_hessian(model, qacc, residual)
    step = [as_array(-x, qacc[0]) for x in solve(factorize(hessian, model.nv), gradient)]
    return step, as_array(dot(tuple(gradient), tuple(step)), qacc[0])


def active_rows(problem: Problem, residual: Residuals) -> list[jax.Array]:
    """The rows that push, one bit each, in int32 arrays [N], 31 bits in each."""
    masks: list[jax.Array] = []
    for i, (weight, value) in enumerate(problem.scalar_rows(residual)):
        bit = jnp.where((value < 0.0) & (weight > 0.0), jnp.int32(1 << i % _BITS), jnp.int32(0))
        if i % _BITS:
            masks[-1] |= bit
        else:
            masks.append(bit)
    return masks


def differ(before: list[jax.Array], after: list[jax.Array]) -> jax.Array:
    """The worlds in which a row pushes at one of two accelerations only, [N]: the step between was not exact there."""
    return reduce(operator.or_, [old ^ new for old, new in zip(before, after, strict=True)]) != 0


def rows_differ(problem: Problem, before: Residuals, after: Residuals, num_worlds: int) -> jax.Array:
    """``differ``, from residuals, [N]: in floats, because XLA:CPU is slow with integers and conditions beside them."""
    changes: dict[int, jax.Array] = {}
    for (weight, old), (_, new) in zip(problem.scalar_rows(before), problem.scalar_rows(after), strict=True):
        change = jnp.abs(jnp.where(old < 0.0, weight, 0.0) - jnp.where(new < 0.0, weight, 0.0))
        changes[change.size] = changes[change.size] + change if change.size in changes else change
    sums: list[jax.Array] = []
    for size, change in changes.items():
        # The contacts by themselves: XLA:CPU does not vectorise a loop in which they are computed as well.
        sums += [change] if size == num_worlds else list(lax.optimization_barrier(change).reshape(-1, num_worlds))
    return total(*sums) > 0.0


def _as_long_as(rows: jax.Array, x: jax.Array) -> jax.Array:
    """The numbers ``x`` [N], C times where ``rows`` are those of C contacts, [C * N]."""
    if x.size == rows.size:
        return x
    # By itself: XLA:CPU does not vectorise a loop that repeats an operand's elements.
    copies = lax.concatenate([lax.optimization_barrier(x)] * (rows.size // x.size), 0)
    repeated: jax.Array = lax.optimization_barrier(copies)
    return repeated


def line_search(problem: Problem, slope: jax.Array, at_start: Residuals, at_full_step: Residuals) -> jax.Array:
    """The step length that minimises the cost along the Newton direction: safeguarded Newton in one dimension.

    ``slope`` [N] is the cost's slope along the direction at its start; ``at_start`` and ``at_full_step`` are the
    residuals at step lengths 0 and 1. Returns step lengths [N].
    """
    # The rows are evaluated in the loop only, also at the start: this code runs rarely, but takes long to compile.
    rates = tuple(full - start for start, full in zip(at_start, at_full_step, strict=True))

    def improve(i: int | jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        length, low, high, constant, linear = state
        rows_slope, rows_curvature = problem.rows_derivatives(
            tuple(r + _as_long_as(r, length) * rate for r, rate in zip(at_start, rates, strict=True)), rates
        )
        # At the start, from which the full step is taken. Without the rows the cost along the step is quadratic:
        # p^T M p is what the active rows leave of the slope.
        constant = jnp.where(i == 0, slope - rows_slope, constant)
        linear = jnp.where(i == 0, -slope - rows_curvature, linear)
        first, second = constant + length * linear + rows_slope, linear + rows_curvature
        low = jnp.where(first < 0.0, length, low)
        high = jnp.where(first > 0.0, length, high)
        newton = length - first / jnp.maximum(second, 1e-30)
        bisected = jnp.where(high < 1e9, 0.5 * (low + high), 2.0 * length)
        # Across the whole bracket, too: between two kinks of dry friction Newton would go to and fro.
        outside = (newton < low) | (newton > high) | (jnp.abs(newton - length) > 0.9 * (high - low))
        newton = jnp.where(outside, bisected, newton)
        newton = jnp.where(first == 0.0, length, newton)
        return jnp.where(i == 0, 1.0, newton), low, high, constant, linear

    zero = jnp.zeros_like(slope)
    return lax.fori_loop(0, 1 + LINE_SEARCH_STEPS, improve, (zero, zero, zero + 1e10, zero, zero))[0]


def minimize(
    model: Model, problem: Problem, qacc: Arrays, early_exit: bool = True, keep_residuals: bool = True
) -> Arrays:
    """The qacc that minimises the cost, by Newton's method from the given one, nv arrays [N].

    With ``early_exit`` it stops as soon as all worlds have converged. On a GPU, outside a kernel, the host then has to
    read after each step whether they have. Without it the host reads only in the third stage, because the first two
    take all their steps. Without ``keep_residuals`` they are computed twice, which saves a kernel a register a row.
    """
    if not problem.has_rows:
        step, _ = newton_direction(model, problem, qacc, ())
        return _move(qacc, step)
    least = tolerance(model, qacc[0].dtype)

    def state_of(qacc: Arrays) -> State:
        return qacc, problem.residuals(model, qacc) if keep_residuals else None

    def at(state: State) -> Residuals:
        return problem.residuals(model, state[0]) if state[1] is None else state[1]

    def newton_step(carry: Carry, stage: int | None = None) -> Carry:
        """One step. ``stage`` is its stage where that is known while tracing; else the number of the step decides."""
        i, state, pending = carry
        qacc, residual = state[0], at(state)
        # Bits take fewer registers than residuals until they are compared.
        active = None if keep_residuals else active_rows(problem, residual)
        step, slope = newton_direction(model, problem, qacc, residual)
        moved = _move(qacc, step)
        full = problem.residuals(model, moved)

        def keep_converged(new: State) -> tuple[State, jax.Array]:
            if active is None:
                changed = rows_differ(problem, residual, full, slope.size)
            else:
                changed = differ(active, active_rows(problem, full))
            unconverged = changed & (slope < -least)
            kept = jax.tree.map(lambda a, b: jnp.where(_as_long_as(a, pending), a, b), new, state)
            return kept, pending & unconverged

        def searched() -> tuple[State, jax.Array]:
            length = line_search(problem, slope, at(state), full)
            return keep_converged(state_of(_move(qacc, [length * s for s in step])))

        whole = moved, full if keep_residuals else None
        branches = (lambda: (whole, pending), lambda: keep_converged(whole), searched)
        if stage is not None:
            state, pending = branches[stage]()
        else:
            # Counted in typed integers: Pallas, lowered to Triton, gives an untyped literal in a select the wrong type.
            stage_now = sum(jnp.asarray(i >= first, jnp.int32) for first in (FIXED_STEPS - 1, FULL_STEPS))
            state, pending = lax.switch(stage_now, branches)
        return i + 1, state, pending

    carry: Carry = (0, state_of(list(qacc)), qacc[0] == qacc[0])
    if early_exit:
        return lax.while_loop(_unfinished, newton_step, carry)[1][0]
    carry = lax.fori_loop(0, FIXED_STEPS - 1, lambda _, carry: newton_step(carry, stage=0), carry)
    carry = lax.fori_loop(FIXED_STEPS - 1, FULL_STEPS, lambda _, carry: newton_step(carry, stage=1), carry)
    return lax.while_loop(_unfinished, lambda carry: newton_step(carry, stage=2), carry)[1][0]


def _unfinished(carry: Carry) -> jax.Array:
    """Whether another step is needed: a world has not converged, and steps are left."""
    i, _, pending = carry
    # A maximum, because Triton reduces no booleans.
    return (jnp.max(pending.astype(jnp.int32)) > 0) & (i < MAX_STEPS)


def _move(qacc: Arrays, step: Arrays) -> Arrays:
    return [a + s for a, s in zip(qacc, step, strict=True)]
