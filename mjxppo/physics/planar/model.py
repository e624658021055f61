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

from mjxppo.physics import tree
from mjxppo.physics.elements import ContactParameters
from mjxppo.physics.maths import Scalar
from mjxppo.physics.planar.vector import Vector


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
class Capsule(tree.Capsule[Vector]):
    """A capsule or sphere in the plane."""


@register_dataclass
@dataclass(frozen=True)
class PairContact(tree.PairContact[Capsule]):
    """Two capsules or spheres that may touch."""


@register_dataclass
@dataclass(frozen=True)
class PlanarModel(tree.TreeModel[Vector, Link, PlaneContact, PairContact]):
    """A planar kinematic tree with everything that acts on it."""

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
