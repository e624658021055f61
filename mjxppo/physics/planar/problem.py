"""The convex problem of one state, whose solution is the constrained acceleration.

MuJoCo documentation, Computation: "Primal problem": qacc minimises

    1/2 (a - a_smooth)^T M (a - a_smooth) + sum_i D_i/2 min(0, r_i(a))^2,      r = J a - aref.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, add, as_array, mul, sub, total
from mjxppo.physics.planar.constraint import limit_rows, plane_rows
from mjxppo.physics.planar.inertia import ZERO_FORCE, ZERO_INERTIA, joint_forces, joint_space
from mjxppo.physics.planar.kinematics import Motion, forward_kinematics, spatial_motions
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.planar.pair import pair_rows
from mjxppo.physics.planar.rows import PlaneRows, Row
from mjxppo.physics.planar.smooth import smooth_dynamics
from mjxppo.physics.sparse import Matrix, multiply

Arrays = list[jax.Array]
Residuals = tuple[jax.Array, ...]
"""Residuals at one acceleration: one or two for each plane contact, then one for each scalar row."""


@register_dataclass
@dataclass(frozen=True)
class Problem:
    """The convex problem of one state."""

    axes: list[Motion]
    inertia: Matrix
    force: list[Scalar]
    """qfrc_smooth = M a_smooth."""
    planes: list[PlaneRows]
    rows: list[Row]


def build_problem(model: PlanarModel, qpos: Arrays, qvel: Arrays, ctrl: Arrays) -> Problem:
    """The problem of N worlds, from qpos, qvel and ctrl, arrays [N] (mj_fwdPosition, mj_fwdVelocity,
    mj_fwdActuation).
    """
    kin = forward_kinematics(model, qpos, qvel)
    inertia, force = smooth_dynamics(model, kin, qpos, qvel, ctrl)
    rows: list[Row] = []
    for limit in model.limits:
        rows += limit_rows(limit, qpos[limit.dof], qvel[limit.dof])
    for pair in model.pair_contacts:
        rows += pair_rows(model, pair, kin, qvel)
    planes = [plane_rows(model, contact, kin, qpos[0]) for contact in model.plane_contacts]
    return Problem(kin.axes, inertia, force, planes, rows)


def residuals(model: PlanarModel, problem: Problem, qacc: Arrays) -> Residuals:
    """The residuals J qacc - aref at an acceleration."""
    values: list[Scalar] = []
    if problem.planes:
        accelerations = spatial_motions(model, problem.axes, qacc)
        for plane in problem.planes:
            values += plane.residual(accelerations)
    values += [row.residual(qacc) for row in problem.rows]
    return tuple(as_array(value, qacc[0]) for value in values)


def split_residuals(problem: Problem, residual: Residuals) -> tuple[list[Residuals], list[jax.Array]]:
    """The residuals by plane contact, and by scalar row."""
    planes, at = [], 0
    for plane in problem.planes:
        size = 1 if plane.friction is None else 2
        planes.append(residual[at : at + size])
        at += size
    return planes, list(residual[at:])


def scalar_rows(problem: Problem, residual: Residuals) -> list[tuple[Scalar, Scalar]]:
    """(D, r) of all rows."""
    planes, rows = split_residuals(problem, residual)
    weighted: list[tuple[Scalar, Scalar]] = []
    for plane, values in zip(problem.planes, planes, strict=True):
        weighted += plane.scalar_rows(values)
    return weighted + [(row.weight, value) for row, value in zip(problem.rows, rows, strict=True)]


def rows_derivatives(problem: Problem, residual: Residuals, rate: Residuals) -> tuple[Scalar, Scalar]:
    """First and second derivative of the rows' cost while their residuals change at ``rate``."""
    planes, rows = split_residuals(problem, residual)
    plane_rates, row_rates = split_residuals(problem, rate)
    each = [plane.derivatives(*at) for plane, *at in zip(problem.planes, planes, plane_rates, strict=True)]
    each += [row.derivatives(*at) for row, *at in zip(problem.rows, rows, row_rates, strict=True)]
    return total(*(first for first, _ in each)), total(*(second for _, second in each))


def gradient_and_hessian(
    model: PlanarModel, problem: Problem, qacc: Arrays, residual: Residuals
) -> tuple[list[Scalar], Matrix]:
    """Gradient and Hessian of the cost at ``qacc``, whose residuals are given.

    A plane contact's Hessian J^T W J, W being 2x2 at its point, is that of a body's kinetic energy with a 3x3
    spatial inertia. One composite pass over the tree sums all of them.
    """
    planes, rows = split_residuals(problem, residual)
    gradient = [sub(x, f) for x, f in zip(multiply(problem.inertia, list(qacc)), problem.force, strict=True)]
    hessian = dict(problem.inertia)
    if problem.planes:
        inertias = [ZERO_INERTIA] * model.nv
        forces = [ZERO_FORCE] * model.nv
        for plane, values in zip(problem.planes, planes, strict=True):
            inertia, force = plane.second_order(values)
            inertias[plane.link] = _sum(inertias[plane.link], inertia)
            forces[plane.link] = _sum(forces[plane.link], force)
        for entry, value in joint_space(model, problem.axes, inertias).items():
            hessian[entry] = add(hessian[entry], value)
        gradient = [add(g, f) for g, f in zip(gradient, joint_forces(model, problem.axes, forces), strict=True)]
    for row, value in zip(problem.rows, rows, strict=True):
        _add_row(row, value, gradient, hessian)
    return gradient, hessian


def _sum(a: tuple[Scalar, ...], b: tuple[Scalar, ...]):
    return tuple(add(x, y) for x, y in zip(a, b, strict=True))


def _add_row(row: Row, residual: jax.Array, gradient: list[Scalar], hessian: Matrix) -> None:
    """Adds a scalar row's D r J and D J^T J, in place."""
    d = jnp.where(residual < 0.0, row.weight, 0.0)
    for k, entry in row.jacobian.items():
        scaled = mul(entry, d)
        gradient[k] = add(gradient[k], mul(scaled, residual))
        for j, other in row.jacobian.items():
            if j <= k:
                # A sign squared (a limit's Jacobian) is 1.
                product = d if row.unit else mul(scaled, other)
                hessian[k, j] = add(hessian.get((k, j), 0.0), product)
