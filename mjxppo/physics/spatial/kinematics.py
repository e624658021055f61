"""Positions, joint axes, velocities and velocity-product accelerations of all links (mj_kinematics, mj_comVel)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax

from mjxppo.physics.maths import as_array, sincos, sub
from mjxppo.physics.spatial.model import Link, SpatialModel
from mjxppo.physics.spatial.vector import (
    IDENTITY,
    ZERO,
    Matrix3,
    Vector,
    add3,
    apply,
    cross,
    length,
    product,
    quaternion_rotation,
    rotation_about,
    scale3,
    transposed,
)
from mjxppo.physics.tree import WORLD


class Motion(NamedTuple):
    """A spatial velocity: that of the body's point at the reference point, and the angular velocity."""

    linear: Vector
    angular: Vector


AT_REST = Motion(ZERO, ZERO)


@dataclass(frozen=True)
class Frame:
    """A link's position, relative to its tree's reference point, and its orientation."""

    origin: Vector
    rotation: Matrix3

    def point(self, v: Vector) -> Vector:
        """A point of the link, relative to the reference point."""
        return add3(self.origin, apply(self.rotation, v))


FIXED = Frame(ZERO, IDENTITY)
"""The frame of a link that does not turn, at the reference point."""


@dataclass(frozen=True)
class Kinematics:
    """Positions and velocities; lists are indexed by link, ``axes`` by dof, ``reference`` by tree."""

    frames: list[Frame]
    reference: list[Vector]
    """World position of each tree's reference point."""
    axes: list[Motion]
    """Velocity of everything beyond the joint for a unit velocity of a dof (MuJoCo's ``cdof``)."""
    velocities: list[Motion]
    """Spatial velocity of each link (MuJoCo's ``cvel``)."""
    bias_accelerations: list[Motion]
    """Acceleration of each link's origin, and its angular one, at zero qacc. It does not depend on the slides in a
    tree's prefix, nor on a free joint's translation: a uniform motion of the whole tree changes no force.
    """


def forward_kinematics(model: SpatialModel, qpos: list[jax.Array], qvel: list[jax.Array]) -> Kinematics:
    """Positions and velocities of all links, from qpos, nq arrays [N], and qvel, nv arrays [N]."""
    frames: list[Frame] = []
    axes: list[Motion] = []
    velocities: list[Motion] = []
    biases: list[Motion] = []
    prefix_links = {k for tree in model.trees for k in tree.prefix}
    for k, link in enumerate(model.links):
        root = link.parent == WORLD
        parent = FIXED if root else frames[link.parent]
        parent_velocity = AT_REST if root else velocities[link.parent]
        parent_bias = AT_REST if root else biases[link.parent]
        if k in prefix_links and link.kind == "slide":
            # Only the last prefix link's origin is ever used, and that is the reference point.
            frame, own, bias = FIXED, [Motion(link.axis, ZERO)], AT_REST
            velocity = add_joint_motion(parent_velocity, own, qvel[link.dof_at : link.dof_at + 1])
        else:
            arm = ZERO if root else apply(parent.rotation, link.offset)
            frame, own, slid = _moved(link, parent, arm, qpos)
            velocity = add_joint_motion(parent_velocity, own, [qvel[d] for d in link.dofs])
            bias = _bias(link, parent_velocity.angular, parent_bias, add3(arm, slid), own, qvel)
        frames.append(frame)
        axes += own
        velocities.append(velocity)
        biases.append(bias)
    reference = [_reference_point(model, tree, qpos) for tree in range(len(model.trees))]
    return Kinematics(frames, reference, axes, velocities, biases)


def _moved(link: Link, parent: Frame, arm: Vector, qpos: list[jax.Array]) -> tuple[Frame, list[Motion], Vector]:
    """A link's frame, the axes of its dofs, and how far a slide has moved it, [3]; ``arm`` is its offset, turned."""
    origin = add3(parent.origin, arm)
    if link.kind in ("ball", "free"):
        at = link.qpos_at + (3 if link.kind == "free" else 0)
        turn = quaternion_rotation(normalized(qpos[at : at + 4]))
        if link.kind == "ball":
            turn = product(parent.rotation, product(link.body_rotation, turn))
        rotation = product(turn, transposed(link.body_rotation))
        own = [Motion(cross(origin, axis), axis) for axis in transposed(turn)]
        if link.kind == "free":
            own = [*(Motion(axis, ZERO) for axis in IDENTITY), *own]
        return Frame(origin, rotation), own, ZERO
    displacement = sub(qpos[link.qpos_at], link.qpos0)
    axis = apply(parent.rotation, link.axis)
    if link.kind == "slide":
        slid = scale3(displacement, axis)
        return Frame(add3(origin, slid), parent.rotation), [Motion(axis, ZERO)], slid
    sin, cos = sincos(as_array(displacement, qpos[link.qpos_at]))
    rotation = product(parent.rotation, rotation_about(link.axis, sin, cos))
    return Frame(origin, rotation), [Motion(cross(origin, axis), axis)], ZERO


def _bias(link: Link, rate: Vector, parent: Motion, arm: Vector, own: list[Motion], qvel: list[jax.Array]) -> Motion:
    """A link's acceleration at zero qacc: of its origin, which is ``arm`` away from its parent's, and angular.

    ``rate`` is the parent's angular velocity, ``parent`` its acceleration.
    """
    linear = total3(parent.linear, cross(parent.angular, arm), cross(rate, cross(rate, arm)))
    if link.kind == "slide":
        # Coriolis acceleration of a point that slides along a turning axis.
        along = scale3(qvel[link.dof_at], own[0].linear)
        return Motion(add3(linear, scale3(2.0, cross(rate, along))), parent.angular)
    # A hinge's axis turns with the parent; those of a ball with the body, whose own rate contributes nothing.
    spin = total3(*(scale3(qvel[d], axis.angular) for d, axis in zip(link.dofs, own, strict=True)))
    return Motion(linear, add3(parent.angular, cross(rate, spin)))


def total3(*vectors: Vector) -> Vector:
    """The sum of vectors."""
    result = ZERO
    for vector in vectors:
        result = add3(result, vector)
    return result


def normalized(quaternion: list[jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """A quaternion, four arrays [N], of length 1."""
    w, x, y, z = quaternion
    size = length(w * w + x * x + y * y + z * z, 1e-30)
    return w / size, x / size, y / size, z / size


def add_joint_motion(parent: Motion, axes: list[Motion], rates: list[jax.Array]) -> Motion:
    """A link's spatial velocity (or acceleration): its parent's plus its dofs' axes times their rates."""
    linear, angular = parent
    for axis, rate in zip(axes, rates, strict=True):
        linear, angular = add3(linear, scale3(rate, axis.linear)), add3(angular, scale3(rate, axis.angular))
    return Motion(linear, angular)


def spatial_motions(model: SpatialModel, axes: list[Motion], rates: list[jax.Array]) -> list[Motion]:
    """J x for every link: spatial velocities for joint velocities, or accelerations less the bias for qacc."""
    motions: list[Motion] = []
    for link in model.links:
        parent = AT_REST if link.parent == WORLD else motions[link.parent]
        own = slice(link.dofs.start, link.dofs.stop)
        motions.append(add_joint_motion(parent, axes[own], rates[own]))
    return motions


def point_motion(motion: Motion, point: Vector) -> Vector:
    """The velocity of a body's point, given relative to the reference point."""
    return add3(motion.linear, cross(motion.angular, point))


def _reference_point(model: SpatialModel, tree: int, qpos: list[jax.Array]) -> Vector:
    root = model.links[model.trees[tree].root]
    if root.kind == "free":
        return qpos[root.qpos_at], qpos[root.qpos_at + 1], qpos[root.qpos_at + 2]
    position = root.offset
    for k in model.trees[tree].prefix:
        link = model.links[k]
        position = add3(position, scale3(sub(qpos[link.qpos_at], link.qpos0), link.axis))
        if k != model.trees[tree].root:
            position = add3(position, link.offset)
    return position
