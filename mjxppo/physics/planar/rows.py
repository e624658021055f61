"""The constraint rows of one state: contacts and limits as terms of the solver's cost.

Every row i contributes D_i/2 min(0, r_i)^2 to the solver's cost, with the residual r = J qacc - aref (MuJoCo
documentation, Computation: "Constraint model"). Two forms:

* ``Row``: one scalar row with its Jacobian; limits and contacts between two links.
* ``PlaneRows``: all rows of one contact with a fixed plane, kept as a point, because their Jacobian is that of
  the point: the residuals come from the links' spatial accelerations, and their Hessian is a 3x3 inertia.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, add, dot, mul, sub, total
from mjxppo.physics.planar.inertia import Force, SpatialInertia, moment
from mjxppo.physics.planar.kinematics import Motion, point_motion
from mjxppo.physics.planar.model import Impedance
from mjxppo.physics.planar.vector import Vector, add2, scale2

MINVAL = 1e-15
"""mjMINVAL."""


@dataclass(frozen=True)
class Row:
    """A scalar row: r = J qacc + offset."""

    jacobian: dict[int, Scalar]
    """The nonzero entries, by dof."""
    weight: jax.Array
    """D where the row exists in this state, else 0, [N]."""
    offset: Scalar
    """-aref, [N]."""
    unit: bool = False
    """Whether the Jacobian is a single +1 or -1."""

    def residual(self, qacc: list[jax.Array]) -> Scalar:
        """J qacc - aref."""
        return add(self.offset, self.along(qacc))

    def along(self, x: list[jax.Array]) -> Scalar:
        """J x."""
        return total(*(mul(entry, x[dof]) for dof, entry in self.jacobian.items()))

    def derivatives(self, residual: jax.Array, rate: jax.Array) -> tuple[Scalar, Scalar]:
        """First and second derivative of this row's cost while its residual changes at ``rate``."""
        pull = jnp.where(residual < 0.0, self.weight, 0.0) * rate
        return pull * residual, pull * rate


register_dataclass(Row, data_fields=["jacobian", "weight", "offset"], meta_fields=["unit"])


@dataclass(frozen=True)
class PlaneRows:
    """The rows of a link's contact with a fixed plane.

    With friction the pyramid has the edges n + mu t, n - mu t and two along y. Nothing moves along y, so that
    the latter two are one row n of twice the weight. Without friction there is the row n alone.
    """

    link: int
    normal: Vector
    point: Vector
    """Contact point relative to the reference point."""
    weight: jax.Array
    """D of one pyramid edge where the contact exists, else 0, [N]."""
    friction: Scalar | None
    normal_offset: Scalar
    """-aref of the row n."""
    tangent_offset: Scalar
    """Half the difference of the two edges' -aref: mu b times the tangential velocity."""

    @property
    def tangent(self) -> Vector:
        """The plane's direction in xz."""
        return self.normal[1], mul(-1.0, self.normal[0])

    def residual(self, accelerations: list[Motion]) -> tuple[Scalar, ...]:
        """(r of the row n, half the difference of the two edges' r); only the first without friction."""
        acceleration = point_motion(accelerations[self.link], self.point)
        along = add(dot(self.normal, acceleration), self.normal_offset)
        if self.friction is None:
            return (along,)
        return along, add(mul(self.friction, dot(self.tangent, acceleration)), self.tangent_offset)

    def scalar_rows(self, residual: tuple[Scalar, ...]) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of every row."""
        if self.friction is None:
            return [(self.weight, residual[0])]
        normal, tangent = residual
        return [
            (self.weight, normal + tangent),
            (self.weight, normal - tangent),
            (2.0 * self.weight, normal),
        ]

    def second_order(self, residual: tuple[Scalar, ...]) -> tuple[SpatialInertia, Force]:
        """Hessian and gradient of this contact's cost with respect to its link's spatial acceleration."""
        d_normal, d_edges, d_tangent, pull_normal, pull_tangent = self._in_contact_frame(residual)
        (nx, nz), (tx, tz), mu = self.normal, self.tangent, self.friction
        if mu is None:
            mu = 0.0
        cross, tangential = mul(mu, d_edges), mul(mul(mu, mu), d_tangent)
        xx = total(mul(nx * nx, d_normal), mul(2.0 * nx * tx, cross), mul(tx * tx, tangential))
        xz = total(mul(nx * nz, d_normal), mul(nx * tz + nz * tx, cross), mul(tx * tz, tangential))
        zz = total(mul(nz * nz, d_normal), mul(2.0 * nz * tz, cross), mul(tz * tz, tangential))
        x, z = self.point
        xw, zw = sub(mul(z, xx), mul(x, xz)), sub(mul(z, xz), mul(x, zz))
        inertia = (xx, xz, xw, zz, zw, sub(mul(z, xw), mul(x, zw)))
        force = add2(scale2(pull_normal, self.normal), scale2(mul(mu, pull_tangent), self.tangent))
        return inertia, (*force, moment(self.point, force))

    def derivatives(self, residual: tuple[Scalar, ...], rate: tuple[Scalar, ...]) -> tuple[Scalar, Scalar]:
        """First and second derivative of this contact's cost while its residuals change at ``rate``."""
        d_normal, d_edges, d_tangent, pull_normal, pull_tangent = self._in_contact_frame(residual)
        along, tangential = rate if self.friction is not None else (*rate, 0.0)
        first = add(mul(pull_normal, along), mul(pull_tangent, tangential))
        change_normal = add(mul(d_normal, along), mul(d_edges, tangential))
        change_tangent = add(mul(d_edges, along), mul(d_tangent, tangential))
        return first, add(mul(change_normal, along), mul(change_tangent, tangential))

    def _in_contact_frame(self, residual: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        """Sums over the active rows: of D, of +-D and D of the two edges, of D r, and of +-D r of the edges."""
        if self.friction is None:
            active = jnp.where(residual[0] < 0.0, self.weight, 0.0)
            return active, 0.0, 0.0, active * residual[0], 0.0
        normal, tangent = residual
        edge1, edge2 = normal + tangent, normal - tangent
        d1 = jnp.where(edge1 < 0.0, self.weight, 0.0)
        d2 = jnp.where(edge2 < 0.0, self.weight, 0.0)
        # Doubled behind the condition: XLA would take 2 D out of the solver's loop, as one array more a contact.
        d3 = 2.0 * jnp.where(normal < 0.0, self.weight, 0.0)
        f1, f2, both = d1 * edge1, d2 * edge2, d1 + d2
        return both + d3, d1 - d2, both, f1 + f2 + d3 * normal, f1 - f2


register_dataclass(
    PlaneRows,
    data_fields=["point", "weight", "friction", "normal_offset", "tangent_offset"],
    meta_fields=["link", "normal"],
)


def impedance(parameters: Impedance, position: jax.Array) -> Scalar:
    """The impedance d(r) (Computation: "Impedance"; engine_core_constraint.c: getimpedance).

    ``position`` is r, the distance less the margin, [N].
    """
    dmin, dmax, width = parameters.dmin, parameters.dmax, parameters.width
    mid, power = parameters.midpoint, parameters.power
    if isinstance(dmin, float) and isinstance(dmax, float) and dmin == dmax:
        return dmin
    if isinstance(width, float) and width <= MINVAL:
        return 0.5 * (dmin + dmax)
    x = jnp.abs(position) * (1.0 / width)
    if power == 1.0:
        y = x
    else:
        # Clipped so that the branch not taken has a finite value and derivative.
        rising = jnp.minimum(x, 1.0) ** _exponent(power) / mid ** (power - 1.0)
        falling = 1.0 - jnp.maximum(1.0 - x, 0.0) ** _exponent(power) / (1.0 - mid) ** (power - 1.0)
        y = jnp.where(x <= mid, rising, falling)
    return jnp.where(x >= 1.0, dmax, dmin + y * (dmax - dmin))


def _exponent(power: float) -> int | float:
    return int(power) if power == int(power) else power


def row_weight(imp: Scalar, inv_weight: Scalar, scale: Scalar, active: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """D = 1/R with R = scale max(MINVAL, (1 - d)/d inv_weight) where active, else 0 (mj_makeImpedance)."""
    scaled = inv_weight * (1.0 - imp)
    least = MINVAL * imp
    scaled = max(scaled, least) if isinstance(scaled, float) else jnp.maximum(scaled, least)
    return jnp.where(active, imp / (scale * scaled), 0.0).astype(dtype)


def row_offset(parameters: Impedance, imp: Scalar, velocity: Scalar, position: jax.Array) -> Scalar:
    """-aref = b v + k d(r) r (Computation: "Reference acceleration").

    ``imp`` is d(r), ``velocity`` v, the rate of the row's distance, and ``position`` r, the distance less the margin,
    [N].
    """
    return mul(parameters.damping, velocity) + mul(parameters.stiffness, mul(imp, position))
