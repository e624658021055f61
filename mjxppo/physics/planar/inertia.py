"""Joint-space inertia and bias force: the composite rigid body algorithm and recursive Newton-Euler.

A rigid body's planar spatial inertia at the reference point is the symmetric 3x3 matrix with the rows
(xx, xz, xw), (xz, zz, zw), (xw, zw, ww): m [[1, 0, cz], [0, 1, -cx], [cz, -cx, |c|^2 + I/m]]. The Hessian of a
contact's cost has the same form (``rows.PlaneRows.second_orders``), so ``joint_space`` serves both.
"""

from __future__ import annotations

from mjxppo.physics.maths import Scalar, add, dot, is_zero, mul, sub, total
from mjxppo.physics.planar.kinematics import Kinematics, Motion
from mjxppo.physics.planar.model import Link, PlanarModel
from mjxppo.physics.planar.vector import add2, scale2, sub2
from mjxppo.physics.tree import WORLD

Force = tuple[Scalar, Scalar, Scalar]
"""A planar spatial force at the reference point: along x, along z, and the moment about +y."""
SpatialInertia = tuple[Scalar, Scalar, Scalar, Scalar, Scalar, Scalar]
"""(xx, xz, xw, zz, zw, ww)."""
Matrix = dict[tuple[int, int], Scalar]
"""A symmetric joint-space matrix: the entries (i, j) with j <= i that can differ from zero."""

ZERO_FORCE: Force = (0.0, 0.0, 0.0)
ZERO_INERTIA: SpatialInertia = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def link_inertia_and_bias(model: PlanarModel, link: Link, kin: Kinematics, k: int) -> tuple[SpatialInertia, Force]:
    """Spatial inertia of one link, and its bias force: the force that its motion at zero qacc needs under gravity."""
    if is_zero(link.mass) and is_zero(link.inertia):
        return ZERO_INERTIA, ZERO_FORCE
    frame, rate = kin.frames[k], kin.velocities[k][2]
    arm = frame.rotate(link.com)
    x, z = add2(frame.origin, arm)
    acceleration = sub2(kin.bias_accelerations[k], model.gravity)
    if not is_zero(rate):
        acceleration = sub2(acceleration, scale2(mul(rate, rate), arm))
    m = link.mass
    mx, mz = mul(m, x), mul(m, z)
    inertia = (m, 0.0, mz, m, mul(-1.0, mx), total(link.inertia, mul(mx, x), mul(mz, z)))
    force = scale2(m, acceleration)
    return inertia, (force[0], force[1], moment((x, z), force))


def moment(point: tuple[Scalar, Scalar], force: tuple[Scalar, Scalar]) -> Scalar:
    """Moment about +y at the reference point of a force that acts at a point."""
    return sub(mul(point[1], force[0]), mul(point[0], force[1]))


def subtree_sums(model: PlanarModel, values: list[tuple[Scalar, ...]]) -> list[tuple[Scalar, ...]]:
    """The sums of ``values`` over each link and its descendants, by link."""
    sums = list(values)
    for k in reversed(range(model.nv)):
        parent = model.links[k].parent
        if parent != WORLD:
            sums[parent] = tuple(add(a, b) for a, b in zip(sums[parent], sums[k], strict=True))
    return sums


def joint_space(model: PlanarModel, axes: list[Motion], inertias: list[SpatialInertia]) -> Matrix:
    """sum_links J^T I J by the composite rigid body algorithm (Featherstone 2008, table 6.2)."""
    matrix: Matrix = {}
    sums = subtree_sums(model, list(inertias))
    for k in range(model.nv):
        xx, xz, xw, zz, zw, ww = sums[k]
        force = (dot((xx, xz, xw), axes[k]), dot((xz, zz, zw), axes[k]), dot((xw, zw, ww), axes[k]))
        for j in model.ancestors(k):
            matrix[k, j] = dot(axes[j], force)
    return matrix


def joint_forces(model: PlanarModel, axes: list[Motion], forces: list[Force]) -> list[Scalar]:
    """sum_links J^T f: spatial forces on links as generalised forces."""
    sums = subtree_sums(model, list(forces))
    return [dot(axes[k], sums[k]) for k in range(model.nv)]


def inertia_and_bias(model: PlanarModel, kin: Kinematics) -> tuple[Matrix, list[Scalar]]:
    """The joint-space inertia M with armature (mj_crb) and the bias force qfrc_bias (mj_rne)."""
    pairs = [link_inertia_and_bias(model, link, kin, k) for k, link in enumerate(model.links)]
    matrix = joint_space(model, kin.axes, [inertia for inertia, _ in pairs])
    for k, link in enumerate(model.links):
        matrix[k, k] = add(matrix[k, k], link.armature)
    return matrix, joint_forces(model, kin.axes, [force for _, force in pairs])
