"""Contacts between capsules and spheres (engine_collision_primitive.c: mjraw_CapsuleCapsule, mjraw_SphereSphere).

Two capsules touch in one point, or in two where they are parallel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mjxppo.physics.elements import diagonal
from mjxppo.physics.maths import Scalar, add, as_array, dot, is_zero, mul, sub
from mjxppo.physics.problem import Arrays
from mjxppo.physics.rows import MINVAL, Row, impedance, row_offset, row_weight
from mjxppo.physics.spatial.inertia import Force
from mjxppo.physics.spatial.kinematics import FIXED, Kinematics, point_motion
from mjxppo.physics.spatial.model import Capsule, PairContact, SpatialModel
from mjxppo.physics.spatial.vector import ZERO, Vector, add3, apply, cross, length, scale3, sub3
from mjxppo.physics.tree import WORLD

_PARALLEL = 1e-8
"""Two axes are parallel where the squared sine of their angle is below this (measured on MuJoCo 3.17)."""
_NEAR = {"float64": 1e-9, "float32": 1e-5}
"""Two axes cross where they are nearer than this, relative to the sum of the radii: rounding leaves no direction."""


@dataclass(frozen=True)
class _Segment:
    """A capsule's axis, relative to the first capsule's reference point."""

    center: Vector
    direction: Vector
    half_length: Scalar

    def at(self, position: Scalar) -> Vector:
        return add3(self.center, scale3(position, self.direction))

    def along(self, point: Vector) -> Scalar:
        """How far along the axis from its middle the point of its line that is nearest to ``point`` lies."""
        return dot(self.direction, sub3(point, self.center))

    def nearest(self, point: Vector, like: jax.Array) -> jax.Array:
        """``along``, within the segment."""
        return jnp.clip(as_array(self.along(point), like), -self.half_length, self.half_length)


class _Touch(NamedTuple):
    """A contact as positions on the two axes, from their middles."""

    on_first: Scalar
    on_second: Scalar
    exists: jax.Array | None = None
    """Whether it exists, [N] bool; None: always."""


class _Point(NamedTuple):
    """Where two bodies touch, and the rows of this contact."""

    place: Vector
    """Relative to the first capsule's reference point."""
    edges: list[Vector]
    """Directions of the pyramid's edges, or the normal alone; a row each."""
    rows: list[Row]


def pair_rows(model: SpatialModel, contact: PairContact, kin: Kinematics, qvel: Arrays) -> list[Row]:
    """The rows of two capsules or spheres: for one contact, or for two where they can be parallel."""
    shift = _shift(model, contact, kin)
    return [row for point in _points(model, contact, kin, qvel, shift) for row in point.rows]


def pair_gradients(
    model: SpatialModel, contact: PairContact, kin: Kinematics, qvel: Arrays, qacc: Arrays
) -> list[tuple[int, Force]]:
    """The moving bodies, each with minus the contact's force on it, at the reference point of its tree."""
    shift = _shift(model, contact, kin)
    gradients: list[tuple[int, Force]] = []
    for point in _points(model, contact, kin, qvel, shift):
        total = ZERO
        for row, edge in zip(point.rows, point.edges, strict=True):
            residual = as_array(row.residual(qacc), qacc[0])
            total = add3(total, scale3(jnp.where(residual < 0.0, row.weight, 0.0) * residual, edge))
        for sign, end, origin in ((-1.0, contact.first, ZERO), (1.0, contact.second, shift)):
            if end.link != WORLD:
                force = scale3(sign, total)
                gradients.append((end.body, Force(force, cross(sub3(point.place, origin), force))))
    return gradients


def _points(model: SpatialModel, contact: PairContact, kin: Kinematics, qvel: Arrays, shift: Vector) -> list[_Point]:
    first, second = _segment(kin, contact.first, ZERO), _segment(kin, contact.second, shift)
    across = cross(first.direction, second.direction)
    touches = _touches(first, second, across, qvel[0])
    return [_point(model, contact, kin, qvel, (first, second), across, touch, shift) for touch in touches]


def _shift(model: SpatialModel, contact: PairContact, kin: Kinematics) -> Vector:
    """The second capsule's reference point relative to the first's; a fixed capsule's is the world's origin."""
    links = contact.first.link, contact.second.link
    trees = [WORLD if link == WORLD else model.tree_of[link] for link in links]
    if trees[0] == trees[1]:
        return ZERO
    points = [ZERO if tree == WORLD else kin.reference[tree] for tree in trees]
    return sub3(points[1], points[0])


def _segment(kin: Kinematics, capsule: Capsule, shift: Vector) -> _Segment:
    frame = FIXED if capsule.link == WORLD else kin.frames[capsule.link]
    center = add3(shift, frame.point(capsule.center))
    return _Segment(center, apply(frame.rotation, capsule.axis), capsule.half_length)


def _touches(first: _Segment, second: _Segment, across: Vector, like: jax.Array) -> list[_Touch]:
    """The contacts; ``across`` is the vector product of the axes."""
    h1, h2 = first.half_length, second.half_length
    if is_zero(h1):  # MuJoCo's order has spheres first
        return [_Touch(0.0, 0.0 if is_zero(h2) else second.nearest(first.center, like))]
    squared_sine = as_array(dot(across, across), like)
    parallel = squared_sine < _PARALLEL
    safe = jnp.where(parallel, 1.0, squared_sine)
    cosine = dot(first.direction, second.direction)
    along = first.along(second.center), second.along(first.center)
    x1 = as_array(add(along[0], mul(cosine, along[1])), like) / safe
    x2 = as_array(add(along[1], mul(cosine, along[0])), like) / safe
    beyond = jnp.abs(x1) > h1
    x1 = jnp.clip(x1, -h1, h1)
    x2 = jnp.where(beyond, second.along(first.at(x1)), x2)
    beyond = jnp.abs(x2) > h2
    x2 = jnp.clip(x2, -h2, h2)
    x1 = jnp.where(beyond, first.nearest(second.at(x2), like), x1)
    # Parallel: at the two ends of the stretch where the axes run side by side. That is an end of the first axis
    # and its projection on the second, or the end of the second and its projection on the first.
    ends: list[tuple[Scalar, jax.Array]] = []
    for end in (mul(-1.0, h1), h1):
        projected = as_array(second.along(first.at(end)), like)
        p2 = jnp.clip(projected, -h2, h2)
        ends.append((jnp.where(jnp.abs(projected) > h2, first.nearest(second.at(p2), like), end), p2))
    (one, its), other = ends
    return [_Touch(jnp.where(parallel, one, x1), jnp.where(parallel, its, x2)), _Touch(*other, parallel)]


def _point(
    model: SpatialModel,
    contact: PairContact,
    kin: Kinematics,
    qvel: Arrays,
    segments: tuple[_Segment, _Segment],
    across: Vector,
    touch: _Touch,
    shift: Vector,
) -> _Point:
    """The contact of two spheres at two points on the axes."""
    like, parameters = qvel[0], contact.parameters
    start = segments[0].at(touch.on_first)
    radii = add(contact.first.radius, contact.second.radius)
    apart, normal = _direction(sub3(segments[1].at(touch.on_second), start), across, radii, like)
    distance = apart - radii
    position = as_array(sub(distance, parameters.margin), like)
    active = position < 0.0 if touch.exists is None else (position < 0.0) & touch.exists
    imp = impedance(parameters.impedance, position)
    weight = row_weight(imp, *diagonal(model.impratio, parameters), active, like.dtype)
    # Half-way between the surfaces.
    point = add3(start, scale3(add(contact.first.radius, 0.5 * distance), normal))
    motions = _relative_motions(model, contact, kin, point, shift)

    def row(direction: Vector) -> Row:
        jacobian = {dof: dot(direction, motion) for dof, motion in motions.items()}
        velocity = as_array(sum((entry * qvel[dof] for dof, entry in jacobian.items()), jnp.zeros_like(like)), like)
        return Row(jacobian, weight, row_offset(parameters.impedance, imp, velocity, position))

    edges = [normal]
    if parameters.condim == 3:
        slips = [scale3(mul(sign, parameters.friction), t) for t in _tangents(normal) for sign in (1.0, -1.0)]
        edges = [add3(normal, slip) for slip in slips]
    return _Point(point, edges, [row(edge) for edge in edges])


def _direction(gap: Vector, across: Vector, radii: Scalar, like: jax.Array) -> tuple[jax.Array, Vector]:
    """Length and direction of ``gap``, which leads from one axis to the other.

    Where the axes cross, MuJoCo takes the direction across both, and x where there is none.
    """
    squared = as_array(dot(gap, gap), like)
    meets = squared < jnp.square(_NEAR[str(like.dtype)] * as_array(radii, like))
    size = jnp.sqrt(jnp.where(meets, 1.0, squared))
    of_product = as_array(dot(across, across), like)
    least = MINVAL**2 if like.dtype == jnp.float64 else 1e-14
    aligned, width = of_product < least, length(of_product, least)
    instead = [jnp.where(aligned, x, as_array(y, like) / width) for x, y in zip((1.0, 0.0, 0.0), across, strict=True)]
    x, y, z = (jnp.where(meets, other, own / size) for other, own in zip(instead, gap, strict=True))
    return jnp.where(meets, 0.0, size), (x, y, z)


def _tangents(normal: Vector) -> tuple[Vector, Vector]:
    """The directions of friction of a contact with this normal, arrays [N] (mju_makeFrame)."""
    upright = jnp.abs(normal[1]) >= 0.5
    x, y, z = normal
    # The y axis, or z where the normal is near y, less its part along the normal.
    along = jnp.where(upright, z, y)
    first = -along * x, jnp.where(upright, 0.0, 1.0) - along * y, jnp.where(upright, 1.0, 0.0) - along * z
    size = jnp.sqrt(as_array(dot(first, first), along))
    tangent = first[0] / size, first[1] / size, first[2] / size
    return tangent, cross(normal, tangent)


def _relative_motions(
    model: SpatialModel, contact: PairContact, kin: Kinematics, point: Vector, shift: Vector
) -> dict[int, Vector]:
    """Rate of x2 - x1 at the contact for a unit rate of each dof (mj_jacDifPair).

    Dofs that move both bodies cancel.
    """
    chains = set(model.ancestors(contact.first.link)), set(model.ancestors(contact.second.link))
    motions: dict[int, Vector] = {}
    for sign, chain, origin in ((-1.0, chains[0], ZERO), (1.0, chains[1], shift)):
        for link in chain - (chains[0] & chains[1]):
            for dof in model.links[link].dofs:
                motions[dof] = scale3(sign, point_motion(kin.axes[dof], sub3(point, origin)))
    return dict(sorted(motions.items()))
