"""A planar kinematic tree as numbers: the part of an ``MjModel`` that motion in the xz plane depends on.

Conventions, used throughout this package:

* A *link* is one degree of freedom and the rigid body it carries. A MuJoCo body with three joints becomes three
  links, the first two massless; a body without joints is part of its parent's link. So link ``k`` is dof ``k``.
* Every link's frame is aligned with the world's at ``qpos0``. Rotating it by the angle ``theta`` about +y maps a
  vector (x, z) of the link to (c x + s z, -s x + c z) in the world, with c, s = cos, sin(theta).
* A vector is a pair (x, z); a rotation about +y counts positive; the velocity of a point r of a body turning
  at the rate w is w (z, -x).
* A ``Scalar`` is a constant or an array [N] (``physics.maths``). The classes that hold scalars are pytrees;
  ``maths.separate_arrays`` tells the arrays from the constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
from jax.tree_util import register_dataclass

from mjxppo.physics.elements import Actuator, ContactParameters, FrictionLoss, Integrator, Limit, Tendon
from mjxppo.physics.maths import Scalar
from mjxppo.physics.planar.vector import Vector

WORLD = -1
"""The link index of everything that does not move."""


@register_dataclass
@dataclass(frozen=True)
class Link:
    """One degree of freedom and the rigid body that it carries."""

    parent: int
    """Index of the parent link, or WORLD."""
    kind: Literal["slide", "hinge"]
    axis: Vector
    """Slides: unit direction in the parent's frame."""
    sign: float
    """Hinges: +1 for the axis +y, -1 for -y."""
    offset: Vector
    """Origin in the parent's frame at qpos0 (in the world for a root). A hinge's origin is its anchor."""
    qpos0: Scalar
    mass: Scalar
    com: Vector
    """Centre of mass in the link's frame."""
    inertia: Scalar
    """Rotational inertia about +y at the centre of mass."""
    armature: Scalar
    damping: Scalar
    stiffness: Scalar
    qpos_spring: Scalar


@dataclass(frozen=True)
class Tree:
    """A connected component below the world: the links from ``root`` on that are its descendants.

    All positions, velocities and forces of a tree are expressed at its *reference point*: the origin of the
    last link of its prefix. Relative to this point a robot that has run a kilometre is as precise as at the
    start, also in float32.
    """

    root: int
    prefix: tuple[int, ...]
    """Leading slides that carry nothing but the next link, except the last. May be empty (a fixed base)."""


@register_dataclass
@dataclass(frozen=True)
class PlaneContact:
    """A sphere (a capsule's end) on a moving link against a fixed plane."""

    link: int
    center: Vector
    radius: Scalar
    normal: Vector
    """The plane's unit normal in the world."""
    height: Scalar
    """The plane's distance from the world's origin along its normal."""
    parameters: ContactParameters


@register_dataclass
@dataclass(frozen=True)
class Capsule:
    """A capsule, or a sphere where ``half_length`` is zero, in a link's frame or fixed in the world."""

    link: int
    center: Vector
    axis: Vector
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
class PlanarModel:
    """A planar kinematic tree with everything that acts on it."""

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
    actuators: tuple[Actuator, ...]
    tendons: tuple[Tendon, ...]
    actuator_force_ranges: tuple[tuple[float, float] | None, ...]
    """Range of the total actuator force on each dof (``jnt_actfrcrange``)."""
    limits: tuple[Limit, ...]
    frictions: tuple[FrictionLoss, ...]
    plane_contacts: tuple[PlaneContact, ...]
    pair_contacts: tuple[PairContact, ...]

    @property
    def nv(self) -> int:
        """Number of degrees of freedom."""
        return len(self.links)

    @property
    def dof_damping(self) -> list[Scalar]:
        """Damping of each dof."""
        return [link.damping for link in self.links]

    def qpos_by_dof(self, qpos: list[jax.Array]) -> list[jax.Array]:
        """The position of each dof."""
        return qpos

    def ancestors(self, link: int) -> tuple[int, ...]:
        """The links that move ``link``, itself included, root first; empty for WORLD."""
        chain: list[int] = []
        while link != WORLD:
            chain.append(link)
            link = self.links[link].parent
        return tuple(reversed(chain))
