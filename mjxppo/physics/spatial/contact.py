"""Contacts with planes as constraint rows (mj_instantiateContact, pyramidal cones)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.elements import diagonal
from mjxppo.physics.maths import Scalar, add, as_array, dot, is_zero, mul, sub, total
from mjxppo.physics.problem import Residuals
from mjxppo.physics.rows import impedance, row_offset, row_weight
from mjxppo.physics.spatial.inertia import Force, SpatialInertia, at_point
from mjxppo.physics.spatial.kinematics import Frame, Motion, point_motion
from mjxppo.physics.spatial.model import PlaneContact
from mjxppo.physics.spatial.vector import Symmetric, Vector, add3, add_symmetric, apply, cross, length, scale3, sub3


@dataclass(frozen=True)
class ContactPoint:
    """The rows of a contact with a fixed plane: the pyramid's edges n + mu t, n - mu t for both tangents t.

    Without friction there is the row n alone.
    """

    normal: tuple[float, float, float]
    tangents: tuple[Vector, Vector]
    point: Vector
    """Contact point relative to the reference point."""
    weight: jax.Array
    """D of one row where the contact exists, else 0, [N]."""
    friction: Scalar | None
    normal_offset: Scalar
    """-aref of the row n."""
    tangent_offsets: tuple[Scalar, Scalar]
    """Half the difference of two opposite edges' -aref: mu b times the velocity along the tangent."""

    @property
    def size(self) -> int:
        """Number of residuals."""
        return 1 if self.friction is None else 3

    def residual(self, acceleration: Motion) -> tuple[Scalar, ...]:
        """(r of the row n, half the difference of r of the opposite edges, for both tangents).

        ``acceleration`` is the spatial acceleration of the link that touches the plane.
        """
        linear = point_motion(acceleration, self.point)
        along = add(dot(self.normal, linear), self.normal_offset)
        if self.friction is None:
            return (along,)
        pairs = zip(self.tangents, self.tangent_offsets, strict=True)
        return along, *(add(mul(self.friction, dot(t, linear)), offset) for t, offset in pairs)

    def scalar_rows(self, residual: Residuals) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of every row."""
        return [(self.weight, edge) for edge in self._edges(residual)]

    def second_order(self, residual: Residuals) -> tuple[SpatialInertia, Force]:
        """Hessian and gradient of this contact's cost with respect to its link's spatial acceleration."""
        edges = self._edges(residual)
        d = [jnp.where(edge < 0.0, self.weight, 0.0) for edge in edges]
        pull = [x * edge for x, edge in zip(d, edges, strict=True)]
        n = self.normal
        matrix, force = _product(total(*d), n, n), scale3(total(*pull), n)
        if (mu := self.friction) is None:
            return at_point(matrix, self.point), Force(force, cross(self.point, force))
        for i, tangent in enumerate(self.tangents):
            plus, minus = d[2 * i : 2 * i + 2]
            matrix = add_symmetric(matrix, _product(mul(mu, plus - minus), n, tangent))
            matrix = add_symmetric(matrix, _product(mul(mul(mu, mu), plus + minus), tangent, tangent))
            force = add3(force, scale3(mul(mu, pull[2 * i] - pull[2 * i + 1]), tangent))
        return at_point(matrix, self.point), Force(force, cross(self.point, force))

    def derivatives(self, residual: Residuals, rate: Residuals) -> tuple[Scalar, Scalar]:
        """First and second derivative of this contact's cost while its residuals change at ``rate``."""
        first: Scalar = 0.0
        second: Scalar = 0.0
        for edge, change in zip(self._edges(residual), self._edges(rate), strict=True):
            pull = jnp.where(edge < 0.0, self.weight, 0.0) * change
            first, second = add(first, pull * edge), add(second, pull * change)
        return first, second

    def _edges(self, residual: Residuals) -> tuple[jax.Array, ...]:
        """R of every row."""
        if self.friction is None:
            return (residual[0],)
        normal, first, second = residual
        return normal + first, normal - first, normal + second, normal - second


register_dataclass(
    ContactPoint,
    data_fields=["tangents", "point", "weight", "friction", "normal_offset", "tangent_offsets"],
    meta_fields=["normal"],
)


def _product(factor: Scalar, a: Vector, b: Vector) -> Symmetric:
    """Factor a a^T where a is b, else factor (a b^T + b a^T)."""

    def entry(i: int, j: int) -> Scalar:
        if a is b:
            return mul(factor, mul(a[i], a[j]))
        return mul(factor, mul(2.0, mul(a[i], b[i])) if i == j else add(mul(a[i], b[j]), mul(a[j], b[i])))

    return entry(0, 0), entry(0, 1), entry(0, 2), entry(1, 1), entry(1, 2), entry(2, 2)


def contact_distance(contact: PlaneContact, frame: Frame, reference: Vector) -> Scalar:
    """How far a sphere on a link with the given frame is above a fixed plane."""
    normal = contact.frame[0]
    above = sub(dot(normal, reference), contact.height + contact.radius)
    return add(dot(normal, frame.point(contact.center)), above)


def contact_tangents(contact: PlaneContact, frame: Frame, like: jax.Array) -> tuple[Vector, Vector]:
    """The directions of friction (mju_makeFrame): a capsule's projected axis and the direction across it.

    ``like`` is any array [N].
    """
    normal = contact.frame[0]
    if contact.axis is None:
        return contact.frame[1], contact.frame[2]
    axis = apply(frame.rotation, contact.axis)
    # Along a coordinate axis the component that is taken away is known to be 0.
    x, y, z = sub3(axis, scale3(dot(normal, axis), normal))
    along = _unless(abs(normal[0]) == 1.0, x), _unless(abs(normal[1]) == 1.0, y), _unless(abs(normal[2]) == 1.0, z)
    squared = as_array(dot(along, along), like)
    # Of an upright capsule MuJoCo normalises a vector of length 0 to x.
    least = 1e-30 if like.dtype == jnp.float64 else 1e-14
    upright, size = squared < least, length(squared, least)
    x, y, z = (0.0 if is_zero(component) else component / size for component in along)
    y, z = (0.0 if is_zero(component) else jnp.where(upright, 0.0, component) for component in (y, z))
    first = jnp.where(upright, 1.0, x), y, z
    return first, cross(normal, first)


def _unless(zero: bool, x: Scalar) -> Scalar:
    return 0.0 if zero else x


def contact_point(
    contact: PlaneContact,
    impratio: Scalar,
    frame: Frame,
    velocity: Motion,
    distance: jax.Array,
    tangents: tuple[Vector, Vector],
) -> ContactPoint:
    """The rows of a sphere or corner against a fixed plane (mjc_PlaneSphere), at a ``distance`` [N] from it.

    ``frame`` and ``velocity`` are those of its link.
    """
    normal, parameters = contact.frame[0], contact.parameters
    # MuJoCo puts the contact half-way between the surfaces; the Jacobian is taken there.
    point = sub3(frame.point(contact.center), scale3(contact.radius + 0.5 * distance, normal))
    position = as_array(sub(distance, parameters.margin), distance)
    linear = point_motion(velocity, point)
    exists = position < 0.0
    if contact.arm is not None:  # only the corners on the plane's side of the box (mjc_PlaneBox)
        exists &= as_array(dot(normal, apply(frame.rotation, contact.arm)), distance) <= 0.0
    imp = impedance(parameters.impedance, position)
    friction = parameters.friction if parameters.condim == 3 else None
    slips = (0.0 if friction is None else mul(friction, dot(t, linear)) for t in tangents)
    first, second = (mul(parameters.impedance.damping, slip) for slip in slips)
    return ContactPoint(
        normal=(float(normal[0]), float(normal[1]), float(normal[2])),
        tangents=tangents,
        point=point,
        weight=row_weight(imp, *diagonal(impratio, parameters), exists, distance.dtype),
        friction=friction,
        normal_offset=row_offset(parameters.impedance, imp, dot(normal, linear), position),
        tangent_offsets=(first, second),
    )
