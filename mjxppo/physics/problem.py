"""The convex problem of one state, whose solution is the constrained acceleration.

MuJoCo documentation, Computation: "Primal problem": qacc minimises

    1/2 (a - a_smooth)^T M (a - a_smooth) + sum_i D_i/2 min(0, r_i(a))^2,      r = J a - aref,

with a cost of another form for dry friction, see ``rows.FrictionRow``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from mjxppo.physics.maths import Scalar, add, as_array, sub, total
from mjxppo.physics.rows import Row
from mjxppo.physics.sparse import Matrix, multiply

Arrays = list[jax.Array]
"""One array [N] for each number of N worlds."""
Residuals = tuple[jax.Array, ...]
"""Residuals at one acceleration: those of contacts with planes, [N] or [C * N], then [N] for each scalar row."""
Motion = tuple[Scalar, ...]
"""A spatial velocity or acceleration."""


class Model(Protocol):
    """What the solver has to know of a compiled model."""

    @property
    def nv(self) -> int:
        """Number of degrees of freedom."""

    @property
    def mean_inertia(self) -> float:
        """``stat.meaninertia``: the scale of the solver's tolerance."""


class ContactRows(Protocol):
    """The rows of contacts with fixed planes, kept as points, because their Jacobian is that of the point."""

    @property
    def size(self) -> int:
        """Number of residuals."""

    def residual(self, accelerations: list[Any]) -> tuple[Scalar, ...]:
        """The residuals, from the spatial accelerations of all links."""

    def scalar_rows(self, residual: Residuals) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of every row."""

    def second_orders(self, residual: Residuals) -> Iterable[tuple[int, Any, Any]]:
        """Links, each with Hessian and gradient of its contacts' cost with respect to its spatial acceleration."""

    def derivatives(self, residual: Residuals, rate: Residuals) -> tuple[Scalar, Scalar]:
        """First and second derivative of the contacts' cost while their residuals change at ``rate``."""


@dataclass(frozen=True)
class Problem(ABC):
    """The convex problem of one state, a pytree. A backend says how motions and forces of its links are summed."""

    axes: list[Any]
    """Spatial velocity of everything beyond a joint for a unit velocity of each dof (MuJoCo's ``cdof``)."""
    inertia: Matrix
    force: list[Scalar]
    """qfrc_smooth = M a_smooth."""
    planes: list[Any]
    """Contacts with planes, each with the methods of ``ContactRows``."""
    rows: list[Row]

    @abstractmethod
    def _link_motions(self, model: Any, rates: Arrays) -> list[Any]:
        """J x of every link."""

    @abstractmethod
    def _joint_space(self, model: Any, at_links: Iterable[tuple[int, Any, Any]]) -> tuple[Matrix, list[Scalar]]:
        """The sums J^T H J and J^T f over spatial Hessians H and forces f at links, each (link, H, f)."""

    @property
    def has_rows(self) -> bool:
        """Whether anything constrains the acceleration."""
        return bool(self.planes or self.rows)

    def residuals(self, model: Any, qacc: Arrays) -> Residuals:
        """The residuals J qacc - aref at an acceleration."""
        values: list[Scalar] = []
        if self.planes:
            accelerations = self._link_motions(model, qacc)
            for plane in self.planes:
                values += plane.residual(accelerations)
        values += [row.residual(qacc) for row in self.rows]
        return tuple(as_array(value, qacc[0]) for value in values)

    def _split(self, residual: Residuals) -> tuple[list[Residuals], list[jax.Array]]:
        """The residuals by plane contact, and by scalar row."""
        planes, at = [], 0
        for plane in self.planes:
            planes.append(residual[at : at + plane.size])
            at += plane.size
        return planes, list(residual[at:])

    def scalar_rows(self, residual: Residuals) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of all rows, those of two sides as two."""
        planes, rows = self._split(residual)
        weighted: list[tuple[Scalar, Scalar]] = []
        for plane, values in zip(self.planes, planes, strict=True):
            weighted += plane.scalar_rows(values)
        return weighted + [piece for row, value in zip(self.rows, rows, strict=True) for piece in row.one_sided(value)]

    def rows_derivatives(self, residual: Residuals, rate: Residuals) -> tuple[Scalar, Scalar]:
        """First and second derivative of the rows' cost while their residuals change at ``rate``."""
        planes, rows = self._split(residual)
        plane_rates, row_rates = self._split(rate)
        each = [plane.derivatives(*at) for plane, *at in zip(self.planes, planes, plane_rates, strict=True)]
        each += [row.derivatives(*at) for row, *at in zip(self.rows, rows, row_rates, strict=True)]
        return total(*(first for first, _ in each)), total(*(second for _, second in each))

    def gradient_and_hessian(self, model: Any, qacc: Arrays, residual: Residuals) -> tuple[list[Scalar], Matrix]:
        """Gradient and Hessian of the cost at ``qacc``, whose residuals are given.

        A plane contact's Hessian J^T W J, W being a matrix at its point, is that of a body's kinetic energy with a
        spatial inertia. One composite pass over the tree sums all of them.
        """
        planes, rows = self._split(residual)
        gradient = [sub(x, f) for x, f in zip(multiply(self.inertia, list(qacc)), self.force, strict=True)]
        hessian = dict(self.inertia)
        if self.planes:
            each = zip(self.planes, planes, strict=True)
            at_links = [at_link for plane, values in each for at_link in plane.second_orders(values)]
            of_planes, forces = self._joint_space(model, at_links)
            for entry, value in of_planes.items():
                hessian[entry] = add(hessian[entry], value)
            gradient = [add(g, f) for g, f in zip(gradient, forces, strict=True)]
        for row, value in zip(self.rows, rows, strict=True):
            row.add_to(gradient, hessian, value)
        return gradient, hessian
