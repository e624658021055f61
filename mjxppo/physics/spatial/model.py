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

from mjxppo.physics.elements import Actuator, ContactParameters, FrictionLoss, Integrator, Limit, Tendon
from mjxppo.physics.maths import Scalar
from mjxppo.physics.spatial.vector import Matrix3, Symmetric, Vector

WORLD = -1
"""The link index of everything that does not move."""

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


@dataclass(frozen=True)
class Tree:
    """A connected component below the world: the links from ``root`` on that are its descendants.

    All positions, velocities and forces of a tree are expressed at its *reference point*: the origin of a free joint,
    else of the last link of its prefix. Relative to this point a robot that has run a kilometre is as precise as at
    the start, also in float32.
    """

    root: int
    prefix: tuple[int, ...]
    """Leading slides that carry nothing but the next link, except the last; a free joint alone. May be empty."""


@register_dataclass
@dataclass(frozen=True)
class Dof:
    """One degree of freedom's passive properties; those of a ball's or free joint's spring are always 0."""

    armature: Scalar
    damping: Scalar
    stiffness: Scalar
    qpos_spring: Scalar


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
class Capsule:
    """A capsule, or a sphere where ``half_length`` is zero, in a link's frame or fixed in the world."""

    link: int
    body: int
    """Index of the MuJoCo body that has the geom."""
    center: Vector
    axis: tuple[float, float, float]
    half_length: Scalar
    radius: Scalar


@register_dataclass
@dataclass(frozen=True)
class PairContact:
    """Two capsules or spheres that may touch; MuJoCo's geom 1 and geom 2 in its order."""

    first: Capsule
    second: Capsule
    parameters: ContactParameters


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
class SpatialModel:
    """A kinematic tree with everything that acts on it."""

    timestep: float
    integrator: Integrator
    gravity: Vector
    impratio: Scalar
    implicit_damping: bool
    """Euler only: joint damping is integrated implicitly ("eulerdamp")."""
    mean_inertia: float
    """``stat.meaninertia``: the scale of the solver's tolerance."""
    links: tuple[Link, ...]
    trees: tuple[Tree, ...]
    tree_of: tuple[int, ...]
    """Index of each link's tree."""
    dofs: tuple[Dof, ...]
    qpos_of_dof: tuple[int, ...]
    """The index in qpos of a slide's or hinge's dof; -1 for the dofs of balls and free joints."""
    actuators: tuple[Actuator, ...]
    tendons: tuple[Tendon, ...]
    actuator_force_ranges: tuple[tuple[float, float] | None, ...]
    """Range of the total actuator force on each dof (``jnt_actfrcrange``)."""
    limits: tuple[Limit, ...]
    frictions: tuple[FrictionLoss, ...]
    plane_contacts: tuple[PlaneContact, ...]
    pair_contacts: tuple[PairContact, ...]
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

    def ancestors(self, link: int) -> tuple[int, ...]:
        """The links that move ``link``, itself included, root first; empty for WORLD."""
        chain: list[int] = []
        while link != WORLD:
            chain.append(link)
            link = self.links[link].parent
        return tuple(reversed(chain))
