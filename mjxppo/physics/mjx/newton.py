"""MuJoCo's constraint solver for a batch of worlds: Newton's method with an exact line search.

MuJoCo (documentation, chapter Computation, "Constraint model" and "Algorithms") defines the acceleration of a step
as the unique minimiser of the convex function

    1/2 (a - a0)^T M (a - a0) + sum_i s_i(x_i),    x = J a - aref,

where a0 is the unconstrained acceleration and s_i is the quadratic D_i x_i^2 / 2 inside an interval and linear
outside of it. The force of a row, f_i(x) = -s_i'(x), is -D_i x_i, limited to

    nothing                         for an equality,
    [-frictionloss, frictionloss]   for dry friction,
    [0, infinity)                   for limits, frictionless contacts and the edges of a friction pyramid.

This solver minimises over the rows that MJX itself builds. It has no settings (``solver``, ``iterations``,
``ls_iterations``, ``tolerance``), because it runs until it has converged.

All arrays are batch last. A world that has converged is frozen, so that its result does not depend on how long its
neighbours take; a world with a NaN counts as converged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjxppo.physics import sparse
from mjxppo.physics.maths import Fence, as_array, make_fence, total
from mjxppo.physics.mjx.rows import RowGroup

Array = jax.Array
RowArrays = tuple[Array, ...]
"""One array [rows, N] for each group of rows."""

MAX_ITERATIONS = 30
"""Far more than the states in training need (99 % of them at most 4). A world that has not converged by then keeps its
last iterate, as in MuJoCo after ``iterations``."""

LINE_SEARCH_EVALUATIONS = 4
"""Evaluations of the line search's derivative; an inexact step length costs at most one more iteration."""

FRICTION_EVALUATIONS = 30
"""The same with dry friction, whose force goes from one limit to the other within a short part of a step: an inexact
step only jumps across, and Newton's method alone would never stop taking turns between the two sides."""

ROWS_PER_LOOP = 16
"""Rows whose outer products are summed in one loop: with many more, XLA:CPU no longer vectorises it."""


@flax.struct.dataclass
class Problem:
    """The optimisation problem of one MuJoCo step of N worlds."""

    mass: sparse.Matrix
    """Joint-space inertia M."""
    force: tuple[Array, ...]
    """M a0, all forces but the constraints' (``qfrc_smooth``), nv arrays [N]."""
    jacobian: tuple[Array, ...]
    """J of each group, [rows, dofs, N]; of a diagonal group, [rows, N]."""
    weight: RowArrays
    """D."""
    reference: RowArrays
    """aref."""
    frictionloss: RowArrays
    """Greatest magnitude of the force; zero but for dry friction."""
    groups: tuple[RowGroup, ...] = flax.struct.field(pytree_node=False)


class _Iterate(NamedTuple):
    iteration: Array
    active: Array  # [N], False once a world has converged
    acceleration: tuple[Array, ...]  # nv arrays [N]
    residual: RowArrays  # x = J a - aref
    inertial: tuple[Array, ...]  # M a, nv arrays [N]


def solve(problem: Problem, start: Sequence[Array], scale: float) -> tuple[Array, ...]:
    """The accelerations qacc that minimise the problem's cost, nv arrays [N], as is the starting point ``start``.

    The tolerance of the cost is relative to ``scale``, the magnitude of the inertia: ``stat.meaninertia * nv``.
    """
    if not problem.groups:
        factor = sparse.factorize(problem.mass, len(problem.force))
        return tuple(as_array(x, start[0]) for x in sparse.solve(factor, problem.force))
    # MuJoCo's default tolerance is 1e-8. In float64 a smaller one takes no more steps, because the last step is exact.
    tolerance = scale * (1e-14 if start[0].dtype == jnp.float64 else 1e-8)
    rows = _rows_times(problem, start)
    first = _Iterate(
        iteration=jnp.int32(0),
        active=jnp.ones(start[0].shape, bool),
        acceleration=tuple(start),
        residual=tuple(x - aref for x, aref in zip(rows, problem.reference, strict=True)),
        inertial=_mass_times(problem, start),
    )
    last = lax.while_loop(
        lambda it: (it.iteration < MAX_ITERATIONS) & jnp.any(it.active),
        lambda it: _newton_step(problem, it, tolerance),
        first,
    )
    return last.acceleration


def _newton_step(problem: Problem, it: _Iterate, tolerance: float) -> _Iterate:
    """One Newton step with an exact line search, for the worlds that are still active."""
    nv = len(problem.force)
    fence = make_fence(it.acceleration[0])
    force, zones = _row_forces(problem, it.residual)
    constraint_force = _rows_transposed_times(problem, tuple(map(fence, force)), fence)
    gradient = [fence(a - b - c) for a, b, c in zip(it.inertial, problem.force, constraint_force, strict=True)]
    curvature = tuple(map(fence, _curvature(problem, zones)))
    factor = sparse.factorize(_hessian(problem, curvature, fence), nv)
    direction = [fence(as_array(-x, gradient[0])) for x in sparse.solve(factor, gradient)]

    slope = total(*(g * p for g, p in zip(gradient, direction, strict=True)))  # of the cost, at the start
    row_change = tuple(map(fence, _rows_times(problem, direction)))
    inertial_change = list(map(fence, _mass_times(problem, direction)))
    # A full step is exact when every row stays in its zone.
    _, zones_after = _row_forces(problem, _along(it.residual, row_change, 1))
    exact = ~_any_row(tuple(z != after for z, after in zip(zones, zones_after, strict=True)))
    search = it.active & ~exact
    step = lax.cond(
        jnp.any(search),
        lambda: jnp.where(search, _line_search(problem, it, slope, direction, row_change, inertial_change), 1),
        lambda: jnp.ones_like(slope),
    )
    converged = exact | ~(slope < -tolerance)  # a NaN slope counts as converged

    def advance(values: Sequence[Array], changes: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(jnp.where(it.active, x + step * dx, x) for x, dx in zip(values, changes, strict=True))

    return _Iterate(
        iteration=it.iteration + 1,
        active=it.active & ~converged,
        acceleration=advance(it.acceleration, direction),
        residual=advance(it.residual, row_change),
        inertial=advance(it.inertial, inertial_change),
    )


def _line_search(
    problem: Problem,
    it: _Iterate,
    slope: Array,
    direction: Sequence[Array],
    row_change: RowArrays,
    inertial_change: Sequence[Array],
) -> Array:
    """Step lengths [N] that nearly minimise the cost along the direction; ``slope`` is its derivative at 0.

    The derivative along the line is continuous, increasing and piecewise linear: Newton's method on it, from a full
    step, kept inside a bracket by bisection.
    """
    gap = [a - b for a, b in zip(it.inertial, problem.force, strict=True)]
    smooth_slope = total(*(p * g for p, g in zip(direction, gap, strict=True)))
    smooth_curvature = total(*(p * c for p, c in zip(direction, inertial_change, strict=True)))

    def derivatives(alpha: Array) -> tuple[Array, Array]:
        force, zones = _row_forces(problem, _along(it.residual, row_change, alpha))
        work = [-f * dx for f, dx in zip(force, row_change, strict=True)]
        stiffness = [k * dx * dx for k, dx in zip(_curvature(problem, zones), row_change, strict=True)]
        slope = smooth_slope + alpha * smooth_curvature + total(*(w for x in work for w in x))
        return slope, smooth_curvature + total(*(s for x in stiffness for s in x))

    if any(group.kind == "friction" for group in problem.groups):
        return _root_between(derivatives, slope)

    def evaluate(_: Array, bracket: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        alpha, low, high = bracket
        slope, curvature = derivatives(alpha)
        low = jnp.where(slope < 0, alpha, low)
        high = jnp.where(slope > 0, alpha, high)
        newton = alpha - slope / curvature
        bisect = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2 * alpha)
        return jnp.where((newton >= low) & (newton <= high), newton, bisect), low, high

    one = jnp.ones_like(smooth_slope)
    return lax.fori_loop(0, LINE_SEARCH_EVALUATIONS, evaluate, (one, 0 * one, np.inf * one))[0]


class _End(NamedTuple):
    """One end of a bracket: step lengths [N], and the derivatives of the cost there."""

    at: Array
    slope: Array
    curvature: Array

    @property
    def root(self) -> Array:
        """Where the slope would be 0 if the curvature stayed the same."""
        return self.at - self.slope / self.curvature


def _root_between(derivatives: Callable[[Array], tuple[Array, Array]], slope: Array) -> Array:
    """Step lengths [N] at which an increasing, piecewise linear slope, which is ``slope`` < 0 at 0, is 0.

    Newton's method from the lower end of a bracket, from the upper one, and bisection take turns (mj_solPrimal's line
    search): each of Newton's is exact where there is no kink between, and bisection gets past kinks.
    """

    def evaluate(i: Array, bracket: tuple[Array, _End, _End]) -> tuple[Array, _End, _End]:
        alpha, low, high = bracket
        here = _End(alpha, *derivatives(alpha))
        low = _End(*(jnp.where(here.slope < 0, new, old) for new, old in zip(here, low, strict=True)))
        high = _End(*(jnp.where(here.slope < 0, old, new) for new, old in zip(here, high, strict=True)))
        known = jnp.isfinite(high.at)
        middle = jnp.where(known, 0.5 * (low.at + high.at), 2 * alpha)
        turns = low.root, jnp.where(known, high.root, low.root), middle
        return jnp.clip(lax.select_n(jnp.full(slope.shape, i % 3), *turns), low.at, high.at), low, high

    one, endless = jnp.ones_like(slope), jnp.full_like(slope, jnp.inf)
    # The direction is a Newton step: from 0, the slope would be 0 at 1. (Worlds that have converged are not searched.)
    steepness = jnp.maximum(-slope, jnp.finfo(slope.dtype).tiny)
    start = one, _End(0 * one, -steepness, steepness), _End(endless, one, one)
    _, low, high = lax.fori_loop(0, FRICTION_EVALUATIONS, evaluate, start)
    nearer = jnp.isfinite(high.at) & (high.slope <= -low.slope)
    return jnp.clip(jnp.where(nearer, high.root, low.root), low.at, high.at)


def _row_forces(problem: Problem, residual: RowArrays) -> tuple[RowArrays, RowArrays]:
    """Constraint forces of the rows, and the zone that each row is in: 0 is the quadratic one."""
    forces, zones = [], []
    for group, x, d, limit in zip(problem.groups, residual, problem.weight, problem.frictionloss, strict=True):
        linear = -d * x
        if group.kind == "equality":
            forces.append(linear)
            zones.append(jnp.zeros_like(x, jnp.int8))
        elif group.kind == "friction":
            forces.append(jnp.clip(linear, -limit, limit))
            # A step can jump from one linear zone to the other, so that they have to be told apart.
            zones.append((linear >= limit).astype(jnp.int8) - (linear <= -limit).astype(jnp.int8))
        else:
            forces.append(jnp.maximum(linear, 0))
            zones.append((x >= 0).astype(jnp.int8))
    return tuple(forces), tuple(zones)


def _curvature(problem: Problem, zones: RowArrays) -> RowArrays:
    """Second derivative of the rows' cost."""
    return tuple(jnp.where(zone == 0, d, 0) for zone, d in zip(zones, problem.weight, strict=True))


def _along(residual: RowArrays, row_change: RowArrays, alpha: Array | float) -> RowArrays:
    return tuple(x + alpha * dx for x, dx in zip(residual, row_change, strict=True))


def _any_row(flags: RowArrays) -> Array:
    """Whether any row of a world is flagged, [N]."""
    result = None
    for group in flags:
        for row in group:
            result = row if result is None else result | row
    assert result is not None
    return result


def _mass_times(problem: Problem, v: Sequence[Array]) -> tuple[Array, ...]:
    """M v, nv arrays [N]."""
    return tuple(as_array(x, v[0]) for x in sparse.multiply(problem.mass, v))


def _rows_times(problem: Problem, v: Sequence[Array]) -> RowArrays:
    """J v."""
    products = []
    for group, jacobian in zip(problem.groups, problem.jacobian, strict=True):
        if group.diagonal:
            products.append(jacobian * jnp.stack([v[i] for i in group.dofs]))
        else:
            products.append(total(*(jacobian[:, k] * v[i] for k, i in enumerate(group.dofs))))
    return tuple(products)


def _rows_transposed_times(problem: Problem, f: RowArrays, fence: Fence) -> list[Array]:
    """J^T f, nv arrays [N]."""
    terms: list[list[Array]] = [[] for _ in problem.force]
    for group, jacobian, force in zip(problem.groups, problem.jacobian, f, strict=True):
        if group.diagonal:
            product = fence(jacobian * force)
        else:
            product = fence(total(*(jacobian[r] * force[r] for r in range(group.size))))
        for k, i in enumerate(group.dofs):
            terms[i].append(product[k])
    return [total(*t) if t else jnp.zeros_like(f[0][0]) for t in terms]


def _hessian(problem: Problem, weight: RowArrays, fence: Fence) -> sparse.Matrix:
    """M + J^T diag(w) J."""
    h = dict(problem.mass)

    def add(i: int, j: int, value: Array) -> None:
        key = (max(i, j), min(i, j))
        h[key] = h[key] + value if key in h else value

    for group, jacobian, w in zip(problem.groups, problem.jacobian, weight, strict=True):
        if group.diagonal:
            product = fence(jacobian * w * jacobian)
            for k, i in enumerate(group.dofs):
                add(i, i, product[k])
            continue
        terms = [(jacobian[r] * w[r])[:, None] * jacobian[r][None] for r in range(group.size)]
        chunks = [terms[r : r + ROWS_PER_LOOP] for r in range(0, group.size, ROWS_PER_LOOP)]
        product = total(*(fence(total(*chunk)) for chunk in chunks))
        for k, i in enumerate(group.dofs):
            for kk, j in enumerate(group.dofs[: k + 1]):
                add(i, j, product[k, kk])
    return h
