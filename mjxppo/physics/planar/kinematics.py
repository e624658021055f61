"""Positions, joint axes, velocities and velocity-product accelerations of all links (mj_kinematics, mj_comVel)."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from mjxppo.physics.maths import Scalar, add, as_array, is_zero, mul, sincos, sub
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.planar.vector import Vector, add2, scale2, sub2
from mjxppo.physics.tree import WORLD

Motion = tuple[Scalar, Scalar, Scalar]
"""A planar spatial velocity: that of the body's point at the reference point (x, z), and the turning rate."""


@dataclass(frozen=True)
class Frame:
    """A link's position, relative to its tree's reference point, and its orientation."""

    origin: Vector
    sin: Scalar
    cos: Scalar

    def rotate(self, v: Vector) -> Vector:
        """A vector of the link's frame in the world's directions."""
        return (
            add(mul(self.cos, v[0]), mul(self.sin, v[1])),
            sub(mul(self.cos, v[1]), mul(self.sin, v[0])),
        )

    def point(self, v: Vector) -> Vector:
        """A point of the link, relative to the reference point."""
        return add2(self.origin, self.rotate(v))


FIXED = Frame(origin=(0.0, 0.0), sin=0.0, cos=1.0)
"""The frame of a link that does not turn, at the reference point."""


@dataclass(frozen=True)
class Kinematics:
    """Positions and velocities of all links; lists are indexed by link, ``reference`` by tree."""

    frames: list[Frame]
    reference: list[Vector]
    """World position of each tree's reference point."""
    axes: list[Motion]
    """Velocity of everything beyond the joint for a unit joint velocity (MuJoCo's ``cdof``)."""
    velocities: list[Motion]
    """Spatial velocity of each link (MuJoCo's ``cvel``)."""
    bias_accelerations: list[Vector]
    """Acceleration of each link's origin at zero qacc. It does not depend on the slides in a tree's prefix:
    a uniform motion of the whole tree changes no force."""

    def frame(self, link: int) -> Frame:
        """The frame of a link, or the world's."""
        return FIXED if link == WORLD else self.frames[link]


def forward_kinematics(model: PlanarModel, qpos: list[jax.Array], qvel: list[jax.Array]) -> Kinematics:
    """Positions and velocities of all links, from qpos and qvel, nv arrays [N] each."""
    zero: Vector = (0.0, 0.0)
    frames: list[Frame] = []
    axes: list[Motion] = []
    velocities: list[Motion] = []
    biases: list[Vector] = []
    angles: list[Scalar] = []
    prefix_links = {k for tree in model.trees for k in tree.prefix}
    for k, link in enumerate(model.links):
        root = link.parent == WORLD
        parent = FIXED if root else frames[link.parent]
        parent_velocity: Motion = (0.0, 0.0, 0.0) if root else velocities[link.parent]
        displacement = sub(qpos[k], link.qpos0)
        if k in prefix_links:
            # Only the last prefix link's origin is ever used, and that is the reference point.
            frames.append(FIXED)
            angles.append(0.0)
            biases.append(zero)
            axes.append((link.axis[0], link.axis[1], 0.0))
            velocities.append(add_joint_motion(parent_velocity, axes[k], qvel[k]))
            continue
        offset = zero if root else parent.rotate(link.offset)
        origin, rate = add2(parent.origin, offset), parent_velocity[2]
        bias = zero if root else biases[link.parent]
        if not is_zero(rate):
            # Centripetal acceleration of a point that is fixed in a turning frame.
            bias = sub2(bias, scale2(mul(rate, rate), offset))
        angle = 0.0 if root else angles[link.parent]
        if link.kind == "hinge":
            angle = add(angle, mul(link.sign, displacement))
            sin, cos = sincos(as_array(angle, qpos[k]))
            frame = Frame(origin, sin, cos)
            axis = (mul(-link.sign, origin[1]), mul(link.sign, origin[0]), link.sign)
        else:
            direction = parent.rotate(link.axis)
            slid = scale2(displacement, direction)
            frame = Frame(add2(origin, slid), parent.sin, parent.cos)
            axis = (direction[0], direction[1], 0.0)
            if not is_zero(rate):
                # Centripetal and Coriolis acceleration of a point that slides along a turning axis.
                coriolis = scale2(mul(2.0, mul(rate, qvel[k])), (direction[1], mul(-1.0, direction[0])))
                bias = add2(sub2(bias, scale2(mul(rate, rate), slid)), coriolis)
        frames.append(frame)
        angles.append(angle)
        biases.append(bias)
        axes.append(axis)
        velocities.append(add_joint_motion(parent_velocity, axis, qvel[k]))
    reference = [_reference_point(model, tree, qpos) for tree in range(len(model.trees))]
    return Kinematics(frames, reference, axes, velocities, biases)


def add_joint_motion(parent: Motion, axis: Motion, rate: Scalar) -> Motion:
    """A link's spatial velocity (or acceleration): its parent's plus the joint's axis times its rate."""
    return (
        add(parent[0], mul(axis[0], rate)),
        add(parent[1], mul(axis[1], rate)),
        add(parent[2], mul(axis[2], rate)),
    )


def spatial_motions(model: PlanarModel, axes: list[Motion], rates: list[jax.Array]) -> list[Motion]:
    """J x for every link: spatial velocities for joint velocities, or accelerations less the bias for qacc."""
    motions: list[Motion] = []
    for k, link in enumerate(model.links):
        parent: Motion = (0.0, 0.0, 0.0) if link.parent == WORLD else motions[link.parent]
        motions.append(add_joint_motion(parent, axes[k], rates[k]))
    return motions


def point_motion(motion: Motion, point: Vector) -> Vector:
    """The velocity of a body's point, given relative to the reference point."""
    return add(motion[0], mul(motion[2], point[1])), sub(motion[1], mul(motion[2], point[0]))


def _reference_point(model: PlanarModel, tree: int, qpos: list[jax.Array]) -> Vector:
    position = model.links[model.trees[tree].root].offset
    for k in model.trees[tree].prefix:
        link = model.links[k]
        slid = scale2(sub(qpos[k], link.qpos0), link.axis)
        position = add2(position, slid)
        if k != model.trees[tree].root:
            position = add2(position, link.offset)
    return position
