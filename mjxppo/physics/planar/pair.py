"""Contacts between capsules and spheres (engine_collision_primitive.c: mjraw_CapsuleCapsule, mjraw_SphereSphere).

Two coplanar capsules touch in one point, or in two where they are parallel.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mjxppo.physics.elements import diagonal
from mjxppo.physics.maths import Scalar, as_array, dot, is_zero
from mjxppo.physics.planar.kinematics import Kinematics
from mjxppo.physics.planar.model import Capsule, PairContact, PlanarModel
from mjxppo.physics.planar.vector import Vector, add2, cross2, scale2, sub2
from mjxppo.physics.rows import MINVAL, Row, impedance, row_offset, row_weight
from mjxppo.physics.tree import WORLD

_PARALLEL = 1e-4
"""Two axes are parallel where the sine of their angle is below this (measured on MuJoCo 3.17: sin^2 < 1e-8)."""


@dataclass(frozen=True)
class _Segment:
    """A capsule's axis, relative to the first capsule's reference point."""

    center: Vector
    direction: Vector
    half_length: Scalar

    def at(self, position: Scalar) -> Vector:
        return add2(self.center, scale2(position, self.direction))


def pair_rows(model: PlanarModel, contact: PairContact, kin: Kinematics, qvel: list[jax.Array]) -> list[Row]:
    """The rows of two capsules or spheres: for one contact, or for two where they can be parallel."""
    like = qvel[0]
    shift = _shift(model, contact, kin)
    first = _segment(kin, contact.first, (0.0, 0.0))
    second = _segment(kin, contact.second, shift)
    rows = []
    for position1, position2, exists, crosses in _contacts(contact, first, second, like):
        points = first.at(position1), second.at(position2)
        rows += _rows_at(model, contact, kin, qvel, points, exists, crosses, shift)
    return rows


def _shift(model: PlanarModel, contact: PairContact, kin: Kinematics) -> Vector:
    """The second capsule's reference point relative to the first's; a fixed capsule's is the world's origin."""
    links = contact.first.link, contact.second.link
    trees = [WORLD if link == WORLD else model.tree_of[link] for link in links]
    if trees[0] == trees[1]:
        return 0.0, 0.0
    points = [(0.0, 0.0) if tree == WORLD else kin.reference[tree] for tree in trees]
    return sub2(points[1], points[0])


def _segment(kin: Kinematics, capsule: Capsule, shift: Vector) -> _Segment:
    frame = kin.frame(capsule.link)
    return _Segment(
        center=add2(shift, frame.point(capsule.center)),
        direction=frame.rotate(capsule.axis),
        half_length=capsule.half_length,
    )


def _contacts(
    contact: PairContact, first: _Segment, second: _Segment, like: jax.Array
) -> list[tuple[Scalar, Scalar, jax.Array | None, jax.Array | None]]:
    """The contacts: their positions on the two axes, from the axes' centers, whether they exist (None: always), and
    whether the axes cross there (None: never).
    """
    h1, h2 = first.half_length, second.half_length
    between = sub2(second.center, first.center)

    def on_second(position1: Scalar) -> jax.Array:
        """The point of the second axis closest to a point of the first."""
        offset = sub2(scale2(position1, first.direction), between)
        return jnp.clip(as_array(dot(second.direction, offset), like), -h2, h2)

    def on_first(position2: Scalar) -> jax.Array:
        offset = add2(scale2(position2, second.direction), between)
        return jnp.clip(as_array(dot(first.direction, offset), like), -h1, h1)

    if is_zero(h1):
        return [(0.0, 0.0 if is_zero(h2) else on_second(0.0), None, None)]
    # Coplanar lines that are not parallel meet: their closest points are the intersection, whose position on
    # each axis is a ratio of cross products. This is MuJoCo's (mc u - mb v) / det without its cancellation.
    sine = as_array(cross2(first.direction, second.direction), like)
    parallel = jnp.abs(sine) < _PARALLEL
    safe = jnp.where(parallel, 1.0, sine)
    x1, x2 = cross2(between, second.direction) / safe, cross2(between, first.direction) / safe
    beyond1 = jnp.abs(x1) > h1
    x1 = jnp.clip(x1, -h1, h1)
    x2 = jnp.where(beyond1, _unclipped(second, first.at(x1)), x2)
    beyond2 = jnp.abs(x2) > h2
    x2 = jnp.clip(x2, -h2, h2)
    x1 = jnp.where(beyond2, on_first(x2), x1)
    crosses = ~(parallel | beyond1 | beyond2)

    # Parallel: at the two ends of the stretch where the axes run side by side. That is an end of the first axis
    # and its projection on the second, or the end of the second and its projection on the first.
    ends: list[Vector] = []
    for end in (-h1, h1):
        projected = _unclipped(second, first.at(end))
        p2 = jnp.clip(as_array(projected, like), -h2, h2)
        ends.append((jnp.where(jnp.abs(projected) > h2, on_first(p2), end), p2))
    return [(*_where2(parallel, ends[0], (x1, x2)), None, crosses), (*ends[1], parallel, None)]


def _unclipped(segment: _Segment, point: Vector) -> Scalar:
    return dot(segment.direction, sub2(point, segment.center))


def _axes(contact: PairContact, kin: Kinematics) -> tuple[Vector, Vector]:
    """World directions of the two geoms' axes."""
    first, second = contact.first, contact.second
    return kin.frame(first.link).rotate(first.axis), kin.frame(second.link).rotate(second.axis)


def _where2(condition: jax.Array, a: Vector, b: Vector) -> Vector:
    return jnp.where(condition, a[0], b[0]), jnp.where(condition, a[1], b[1])


def _rows_at(
    model: PlanarModel,
    contact: PairContact,
    kin: Kinematics,
    qvel: list[jax.Array],
    points: tuple[Vector, Vector],
    exists: jax.Array | None,
    crosses: jax.Array | None,
    shift: Vector,
) -> list[Row]:
    """The rows of one sphere-sphere contact at two points on the axes; see ``_contacts``."""
    like, parameters = qvel[0], contact.parameters
    gap = sub2(points[1], points[0])
    squared = as_array(dot(gap, gap), like)
    # Where the points meet, MuJoCo's normal is the cross product of the axes, along y, where nothing moves;
    # for parallel axes it is x.
    meeting = squared < MINVAL**2 if like.dtype == jnp.float64 else squared < 1e-14
    if crosses is not None:
        # Of axes at a small angle rounding leaves a gap, whose direction says nothing.
        meeting |= crosses
    aligned = meeting & (jnp.abs(as_array(cross2(*_axes(contact, kin)), like)) < MINVAL)
    length = jnp.sqrt(jnp.where(meeting, 1.0, squared))
    unit = jnp.where(meeting, 0.0, 1.0 / length)
    normal = jnp.where(aligned, 1.0, gap[0] * unit), gap[1] * unit
    distance = jnp.where(meeting, 0.0, length) - (contact.first.radius + contact.second.radius)
    position = distance - parameters.margin
    active = position < 0.0 if exists is None else (position < 0.0) & exists
    imp = impedance(parameters.impedance, position)
    row_d = row_weight(imp, *diagonal(model.impratio, parameters), active, like.dtype)
    contact_point = add2(points[0], scale2(contact.first.radius + 0.5 * distance, normal))

    def row(direction: Vector) -> Row:
        jacobian = _jacobian(model, contact, kin, contact_point, direction, shift)
        velocity = sum((entry * qvel[dof] for dof, entry in jacobian.items()), jnp.zeros_like(like))
        return Row(jacobian, row_d, row_offset(parameters.impedance, imp, velocity, position))

    if parameters.condim == 1:
        return [row(normal)]
    # Edges along the two tangents: one in the plane, one along y; in the plane too where the normal is y.
    mu, one = parameters.friction, jnp.ones_like(like)
    across = meeting & ~aligned
    tangent = _where2(across, (one, 0.0 * one), (normal[1], -normal[0]))
    other = _where2(across, (0.0 * one, one), (0.0 * one, 0.0 * one))
    edges = [scale2(s * mu, t) for t in (tangent, other) for s in (1.0, -1.0)]
    return [row(add2(normal, edge)) for edge in edges]


def _jacobian(
    model: PlanarModel, contact: PairContact, kin: Kinematics, point: Vector, direction: Vector, shift: Vector
) -> dict[int, Scalar]:
    """Rate of ``direction . (x2 - x1)`` at the contact; dofs that move both bodies cancel (mj_jacDifPair)."""
    chains = set(model.ancestors(contact.first.link)), set(model.ancestors(contact.second.link))
    jacobian: dict[int, Scalar] = {}
    for sign, chain, origin in ((-1.0, chains[0], (0.0, 0.0)), (1.0, chains[1], shift)):
        x, z = sub2(point, origin)
        for dof in chain - (chains[0] & chains[1]):
            vx, vz, w = kin.axes[dof]
            velocity = vx + w * z, vz - w * x
            jacobian[dof] = sign * (direction[0] * velocity[0] + direction[1] * velocity[1])
    return dict(sorted(jacobian.items()))
