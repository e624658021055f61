"""What compiled models in the plane and in three dimensions have in common: a tree of links, and what acts on it.

A *link* is a rigid body and the joint that it hangs on. A ``Scalar`` is a constant or an array [N] (``physics.maths``).
The classes that hold scalars are pytrees, registered where their vectors are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mjxppo.physics.elements import Actuator, ContactParameters, FrictionLoss, Integrator, Limit, Tendon
from mjxppo.physics.maths import Scalar

WORLD = -1
"""The link index of everything that does not move."""

VectorT = TypeVar("VectorT")
CapsuleT = TypeVar("CapsuleT")
LinkT = TypeVar("LinkT", bound=Any)
PlaneT = TypeVar("PlaneT")
PairT = TypeVar("PairT")


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


@dataclass(frozen=True)
class Capsule(Generic[VectorT]):
    """A capsule, or a sphere where ``half_length`` is zero, in a link's frame or fixed in the world."""

    link: int
    center: VectorT
    axis: VectorT
    half_length: Scalar
    radius: Scalar


@dataclass(frozen=True)
class PairContact(Generic[CapsuleT]):
    """Two capsules or spheres that may touch; MuJoCo's geom 1 and geom 2 in its order."""

    first: CapsuleT
    second: CapsuleT
    parameters: ContactParameters


@dataclass(frozen=True)
class TreeModel(Generic[VectorT, LinkT, PlaneT, PairT]):
    """A kinematic tree with everything that acts on it."""

    timestep: float
    integrator: Integrator
    gravity: VectorT
    impratio: Scalar
    implicit_damping: bool
    """Euler only: joint damping is integrated implicitly ("eulerdamp")."""
    mean_inertia: float
    """``stat.meaninertia``: the scale of the solver's tolerance."""
    links: tuple[LinkT, ...]
    trees: tuple[Tree, ...]
    tree_of: tuple[int, ...]
    """Index of each link's tree."""
    actuators: tuple[Actuator, ...]
    tendons: tuple[Tendon, ...]
    actuator_force_ranges: tuple[tuple[float, float] | None, ...]
    """Range of the total actuator force on each dof (``jnt_actfrcrange``)."""
    limits: tuple[Limit, ...]
    frictions: tuple[FrictionLoss, ...]
    plane_contacts: tuple[PlaneT, ...]
    pair_contacts: tuple[PairT, ...]

    def ancestors(self, link: int) -> tuple[int, ...]:
        """The links that move ``link``, itself included, root first; empty for WORLD."""
        chain: list[int] = []
        while link != WORLD:
            chain.append(link)
            link = self.links[link].parent
        return tuple(reversed(chain))
