"""Joint-space inertia and bias force: the composite rigid body algorithm and recursive Newton-Euler."""

from __future__ import annotations

from typing import NamedTuple

from mjxppo.physics.maths import Scalar, add, dot, is_zero
from mjxppo.physics.sparse import Matrix
from mjxppo.physics.spatial.kinematics import Kinematics, Motion, total3
from mjxppo.physics.spatial.model import Link, SpatialModel
from mjxppo.physics.spatial.vector import (
    ZERO,
    Matrix3,
    Symmetric,
    Vector,
    add3,
    add_symmetric,
    apply,
    cross,
    full,
    rotated,
    scale3,
    sub3,
    transposed,
)
from mjxppo.physics.tree import WORLD


class Force(NamedTuple):
    """A spatial force at the reference point."""

    linear: Vector
    moment: Vector


class SpatialInertia(NamedTuple):
    """A symmetric 6x6 matrix at the reference point, from a spatial motion to a spatial force.

    force = linear v + coupling w and moment = coupling^T v + angular w. A rigid body's has linear = m 1 and coupling =
    -m [c]x; the Hessian of a contact's cost has the same form (``contact.ContactPoint.second_order``).
    """

    linear: Symmetric
    coupling: Matrix3
    angular: Symmetric

    def __matmul__(self, motion: Motion) -> Force:
        force = add3(apply(full(self.linear), motion.linear), apply(self.coupling, motion.angular))
        moment = add3(apply(transposed(self.coupling), motion.linear), apply(full(self.angular), motion.angular))
        return Force(force, moment)

    def plus(self, other: SpatialInertia) -> SpatialInertia:
        """The sum of two."""
        coupling = tuple(add3(a, b) for a, b in zip(self.coupling, other.coupling, strict=True))
        return SpatialInertia(
            add_symmetric(self.linear, other.linear),
            (coupling[0], coupling[1], coupling[2]),
            add_symmetric(self.angular, other.angular),
        )


NO_INERTIA = SpatialInertia((0.0,) * 6, (ZERO, ZERO, ZERO), (0.0,) * 6)
NO_FORCE = Force(ZERO, ZERO)


def at_point(linear: Symmetric, point: Vector) -> SpatialInertia:
    """A matrix W at a point p: linear = W, coupling = -W [p]x, angular = -[p]x W [p]x."""
    # The rows of W [p]x are w x p, because (a^T [p]x) = (a x p)^T.
    x, y, z = (cross(row, point) for row in full(linear))
    coupling = scale3(-1.0, x), scale3(-1.0, y), scale3(-1.0, z)
    # The columns of -[p]x (W [p]x).
    a, b, c = (cross(point, column) for column in transposed(coupling))
    return SpatialInertia(linear, coupling, (a[0], b[0], c[0], b[1], c[1], c[2]))


def link_inertia_and_bias(model: SpatialModel, link: Link, kin: Kinematics, k: int) -> tuple[SpatialInertia, Force]:
    """Spatial inertia of one link, and its bias force: the force that its motion at zero qacc needs under gravity."""
    if is_zero(link.mass) and all(is_zero(x) for x in link.inertia):
        return NO_INERTIA, NO_FORCE
    frame, rate, bias = kin.frames[k], kin.velocities[k].angular, kin.bias_accelerations[k]
    arm = apply(frame.rotation, link.com)
    center = add3(frame.origin, arm)
    turning = rotated(frame.rotation, link.inertia)
    m = link.mass
    acceleration = total3(bias.linear, cross(bias.angular, arm), cross(rate, cross(rate, arm)))
    force = scale3(m, sub3(acceleration, model.gravity))
    torque = add3(apply(full(turning), bias.angular), cross(rate, apply(full(turning), rate)))
    inertia = at_point((m, 0.0, 0.0, m, 0.0, m), center)
    whole = inertia._replace(angular=add_symmetric(inertia.angular, turning))
    return whole, Force(force, add3(torque, cross(center, force)))


def joint_space(model: SpatialModel, axes: list[Motion], inertias: list[SpatialInertia]) -> Matrix:
    """sum_links J^T I J by the composite rigid body algorithm (Featherstone 2008, table 6.2)."""
    matrix: Matrix = {}
    sums = list(inertias)
    for k in reversed(range(len(model.links))):
        if (parent := model.links[k].parent) != WORLD:
            sums[parent] = sums[parent].plus(sums[k])
    for k, link in enumerate(model.links):
        for i in link.dofs:
            force = sums[k] @ axes[i]
            for ancestor in model.ancestors(k):
                for j in model.links[ancestor].dofs:
                    if j <= i:
                        matrix[i, j] = power(axes[j], force)
    return matrix


def power(motion: Motion, force: Force) -> Scalar:
    """The power of a force along a motion."""
    return add(dot(motion.linear, force.linear), dot(motion.angular, force.moment))


def joint_forces(model: SpatialModel, axes: list[Motion], forces: list[Force]) -> list[Scalar]:
    """sum_links J^T f: spatial forces on links as generalised forces."""
    sums = list(forces)
    for k in reversed(range(len(model.links))):
        if (parent := model.links[k].parent) != WORLD:
            sums[parent] = add_forces(sums[parent], sums[k])
    return [power(axes[i], sums[k]) for k, link in enumerate(model.links) for i in link.dofs]


def add_forces(a: Force, b: Force) -> Force:
    """The sum of two."""
    return Force(add3(a.linear, b.linear), add3(a.moment, b.moment))


def inertia_and_bias(model: SpatialModel, kin: Kinematics) -> tuple[Matrix, list[Scalar]]:
    """The joint-space inertia M with armature (mj_crb) and the bias force qfrc_bias (mj_rne)."""
    pairs = [link_inertia_and_bias(model, link, kin, k) for k, link in enumerate(model.links)]
    matrix = joint_space(model, kin.axes, [inertia for inertia, _ in pairs])
    for i, dof in enumerate(model.dofs):
        matrix[i, i] = add(matrix[i, i], dof.armature)
    return matrix, joint_forces(model, kin.axes, [force for _, force in pairs])
