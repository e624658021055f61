"""The rows of all contacts with planes: those of the same kind are computed at once.

A robot has many places that could touch the floor. As arrays [N] for each of them, the program would be long, and most
of the time of compiling it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, as_array, total
from mjxppo.physics.problem import Residuals
from mjxppo.physics.rows import MINVAL
from mjxppo.physics.spatial.contact import ContactPoint, contact_distance, contact_point, contact_tangents
from mjxppo.physics.spatial.inertia import Force, SpatialInertia
from mjxppo.physics.spatial.kinematics import Frame, Kinematics, Motion
from mjxppo.physics.spatial.model import PlaneContact, SpatialModel
from mjxppo.physics.spatial.vector import Matrix3, Vector


@dataclass(frozen=True)
class ContactGroup:
    """The rows of C contacts of the same kind."""

    links: tuple[int, ...]
    """The link of each contact."""
    bodies: tuple[int, ...]
    """The body of each contact."""
    points: ContactPoint
    """All of them; its arrays are [C * N], the N worlds of the first contact first."""

    @property
    def size(self) -> int:
        """Number of arrays of residuals, each [C * N]."""
        return self.points.size

    @property
    def _num_worlds(self) -> int:
        return self.points.weight.size // len(self.links)

    def residual(self, accelerations: list[Motion]) -> tuple[jax.Array, ...]:
        """The residuals, from the spatial accelerations of all links."""
        weight = self.points.weight
        of_contacts = _of_contacts([accelerations[link] for link in self.links], weight[: self._num_worlds])
        return tuple(as_array(x, weight) for x in self.points.residual(of_contacts))

    def scalar_rows(self, residual: Residuals) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of every row, [C * N]."""
        return self.points.scalar_rows(residual)

    def second_orders(self, residual: Residuals) -> list[tuple[int, SpatialInertia, Force]]:
        """The link of each contact, with Hessian and gradient of the contact's cost."""
        of_all = self.points.second_order(residual)
        return [(link, *self._one(of_all, contact)) for contact, link in enumerate(self.links)]

    def gradients(self, residual: Residuals) -> list[tuple[int, Force]]:
        """The body of each contact, and the gradient of the contact's cost: minus the contact's force."""
        _, of_all = self.points.second_order(residual)
        return [(body, self._one(of_all, contact)) for contact, body in enumerate(self.bodies)]

    def derivatives(self, residual: Residuals, rate: Residuals) -> tuple[Scalar, Scalar]:
        """First and second derivative of the contacts' cost while their residuals change at ``rate``."""
        of_all = self.points.derivatives(residual, rate)
        first, second = zip(*(self._one(of_all, contact) for contact in range(len(self.links))), strict=True)
        return total(*first), total(*second)

    def _one(self, of_all: Any, contact: int) -> Any:
        """The numbers of one contact."""
        own = slice(contact * self._num_worlds, (contact + 1) * self._num_worlds)
        return jax.tree.map(lambda x: x if isinstance(x, float) else x[own], of_all)


register_dataclass(ContactGroup, data_fields=["points"], meta_fields=["links", "bodies"])


def contact_groups(model: SpatialModel, kin: Kinematics, like: jax.Array, together: bool = True) -> list[ContactGroup]:
    """The rows of all contacts with planes; ``like`` is any array [N].

    Each is a group of its own unless contacts of the same kind are to be computed ``together``.
    """
    if not together:
        return [_group(model, [contact], kin, like) for contact in model.plane_contacts]
    kinds: dict[Any, list[PlaneContact]] = {}
    for contact in model.plane_contacts:
        kinds.setdefault(_kind(contact), []).append(contact)
    return [_group(model, contacts, kin, like) for contacts in kinds.values()]


def _kind(contact: PlaneContact) -> tuple:
    """What has to be the same in all contacts of a group."""
    parameters, width = contact.parameters, contact.parameters.impedance.width
    # An impedance without a width is a constant of its own form, see ``rows.impedance``.
    jumps = isinstance(width, float) and width <= MINVAL
    form = parameters.impedance.power, width if jumps else None
    return parameters.condim, form, contact.axis is None, contact.arm is None, contact.frame


def _group(model: SpatialModel, contacts: list[PlaneContact], kin: Kinematics, like: jax.Array) -> ContactGroup:
    links = tuple(contact.link for contact in contacts)
    unplaced = [replace(contact, link=0, body=0) for contact in contacts]
    contact: PlaneContact = _of_contacts(unplaced, like)
    states = [(*_pose(kin.frames[k]), kin.velocities[k], kin.reference[model.tree_of[k]]) for k in links]
    origin, rotation, velocity, reference = _of_contacts(states, like)
    frame = Frame(origin, rotation)
    array = jnp.zeros(len(contacts) * like.size, like.dtype)
    distance = as_array(contact_distance(contact, frame, reference), array)
    tangents = contact_tangents(contact, frame, array)
    points = contact_point(contact, model.impratio, frame, velocity, distance, tangents)
    return ContactGroup(links, tuple(contact.body for contact in contacts), points)


def _pose(frame: Frame) -> tuple[Vector, Matrix3]:
    return frame.origin, frame.rotation


def _of_contacts(trees: Sequence[Any], like: jax.Array) -> Any:
    """C pytrees of scalars as one: what is the same constant in all of them, else arrays [C * N]."""
    columns = zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)
    return jax.tree.unflatten(jax.tree.structure(trees[0]), [_one_array(column, like) for column in columns])


def _one_array(column: tuple[Any, ...], like: jax.Array) -> Any:
    if not any(isinstance(x, jax.Array) for x in column):
        if len(set(column)) == 1:
            return column[0]
        # Written out, because XLA:CPU does not vectorise a loop that repeats an operand's elements.
        return jnp.asarray(np.repeat(np.array(column, like.dtype), like.size))
    if len(column) == 1:
        return column[0]
    # By itself: within a fused loop XLA:CPU would ask for each element which array it is from.
    parts = lax.optimization_barrier([as_array(x, like) for x in column])
    return lax.optimization_barrier(lax.concatenate(parts, 0))
