"""A kinematic tree in three dimensions as numbers: the part of an ``MjModel`` that motion depends on.

Conventions, used throughout this package:

* A *link* is one joint and the rigid body it carries. A MuJoCo body with three joints becomes three links, the first
  two massless; a body without joints is part of its parent's link. A link has 1, 3 (ball) or 6 (free) dofs.
* Every link's frame is aligned with the world's at ``qpos0``. ``rotation`` maps its vectors to the world's directions.
* A spatial velocity is six scalars: the velocity of the body's point at the reference point, and the angular velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
from jax.tree_util import register_dataclass

from mjxppo.physics import tree
from mjxppo.physics.elements import ContactParameters
from mjxppo.physics.maths import Scalar
from mjxppo.physics.rows import Impedance
from mjxppo.physics.spatial.vector import Matrix3, Symmetric, Vector

Kind = Literal["slide", "hinge", "ball", "free"]


@register_dataclass
@dataclass(frozen=True)
class Link:
    """One joint and the rigid body that it carries."""

    parent: int
    """Index of the parent link, or WORLD."""
    kind: Kind
    qpos_at: int
    """Index of its first number in qpos."""
    dof_at: int
    """Index of its first dof."""
    axis: tuple[float, float, float]
    """Slides and hinges: unit direction in the parent's frame."""
    offset: Vector
    """Origin in the parent's frame at qpos0 (in the world for a root). A hinge's and a ball's is the anchor."""
    body_rotation: Matrix3
    """Balls and free joints: orientation of the body's frame, in which their dofs turn, at qpos0; constants."""
    qpos0: Scalar
    """Slides and hinges: position in which the link's frame is aligned with the world's."""
    mass: Scalar
    com: Vector
    """Centre of mass in the link's frame."""
    inertia: Symmetric
    """Rotational inertia at the centre of mass, in the link's frame."""

    @property
    def dofs(self) -> range:
        """Its dofs."""
        return range(self.dof_at, self.dof_at + {"ball": 3, "free": 6}.get(self.kind, 1))


@register_dataclass
@dataclass(frozen=True)
class Dof:
    """One degree of freedom's passive properties; those of the spring are 0 but for slides and hinges."""

    armature: Scalar
    damping: Scalar
    stiffness: Scalar
    qpos_spring: Scalar


@register_dataclass
@dataclass(frozen=True)
class BallSpring:
    """A spring that turns a ball back to where it rests."""

    qpos_at: int
    """Index of the ball's quaternion in qpos."""
    dof_at: int
    """Index of the first of its three dofs."""
    stiffness: Scalar
    """Torque by angle (N m)."""
    rest: tuple[float, float, float, float]
    """The quaternion in which it is slack."""


@register_dataclass
@dataclass(frozen=True)
class BallLimit:
    """The largest angle that a ball may be turned by, from the quaternion 1."""

    qpos_at: int
    dof_at: int
    angle: float
    margin: float
    inv_weight: Scalar
    impedance: Impedance


@register_dataclass
@dataclass(frozen=True)
class PlaneContact:
    """A sphere (a capsule's end), or a box's corner, on a moving link against a fixed plane."""

    link: int
    body: int
    """Index of the MuJoCo body that has the geom; its joints, or those above it, are the link."""
    center: Vector
    radius: Scalar
    """0 for a corner."""
    arm: Vector | None
    """A corner's place relative to the box's centre, in the link's frame; None for spheres."""
    axis: tuple[float, float, float] | None
    """A capsule's axis in the link's frame, with which MuJoCo turns the friction pyramid; None for a sphere."""
    frame: Matrix3
    """Constants: the plane's unit normal in the world, and the tangents that a sphere has (mju_makeFrame)."""
    height: Scalar
    """The plane's distance from the world's origin along its normal."""
    parameters: ContactParameters


@register_dataclass
@dataclass(frozen=True)
class Capsule(tree.Capsule[Vector]):
    """A capsule or sphere in three dimensions."""

    body: int
    """Index of the MuJoCo body that has the geom."""


@register_dataclass
@dataclass(frozen=True)
class PairContact(tree.PairContact[Capsule]):
    """Two capsules or spheres that may touch."""


@register_dataclass
@dataclass(frozen=True)
class ImmersedBody:
    """A body in the medium, as the box of its inertia, and what the medium resists with."""

    link: int
    com: Vector
    """Centre of mass in the link's frame."""
    axes: Matrix3
    """Orientation of the box in the link's frame; constants."""
    viscous_force: Scalar
    """Force by velocity (N s/m)."""
    viscous_torque: Scalar
    """Torque by angular velocity (N m s)."""
    drag: Vector
    """Force by squared velocity along each axis of the box (N s^2/m^2)."""
    turning_drag: Vector
    """Torque by squared angular velocity about each axis (N m s^2)."""


@register_dataclass
@dataclass(frozen=True)
class Medium:
    """What the robot moves in."""

    wind: Vector
    """Its velocity (m/s)."""
    bodies: tuple[ImmersedBody, ...]


@register_dataclass
@dataclass(frozen=True)
class SpatialModel(tree.TreeModel[Vector, Link, PlaneContact, PairContact]):
    """A kinematic tree in three dimensions with everything that acts on it."""

    dofs: tuple[Dof, ...]
    qpos_of_dof: tuple[int, ...]
    """The index in qpos of a slide's or hinge's dof; -1 for the dofs of balls and free joints."""
    ball_springs: tuple[BallSpring, ...]
    ball_limits: tuple[BallLimit, ...]
    medium: Medium | None
    """What resists the motion of bodies; None for a vacuum."""

    @property
    def nv(self) -> int:
        """Number of degrees of freedom."""
        return len(self.dofs)

    @property
    def dof_damping(self) -> list[Scalar]:
        """Damping of each dof."""
        return [dof.damping for dof in self.dofs]

    def qpos_by_dof(self, qpos: list[jax.Array]) -> list[jax.Array]:
        """The position of each slide's and hinge's dof; any number for the dofs of balls and free joints."""
        return [qpos[index] for index in self.qpos_of_dof]
