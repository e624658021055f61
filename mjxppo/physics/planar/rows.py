"""The rows of contacts with planes.

``PlaneRows`` are all rows of one contact with a fixed plane, kept as a point, because their Jacobian is that of the
point: the residuals come from the links' spatial accelerations, and their Hessian is a 3x3 inertia.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, add, dot, mul, sub, total
from mjxppo.physics.planar.inertia import Force, SpatialInertia, moment
from mjxppo.physics.planar.kinematics import Motion, point_motion
from mjxppo.physics.planar.vector import Vector, add2, scale2


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
    def size(self) -> int:
        """Number of residuals."""
        return 1 if self.friction is None else 2

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

    def second_orders(self, residual: tuple[Scalar, ...]) -> list[tuple[int, SpatialInertia, Force]]:
        """The link, with Hessian and gradient of this contact's cost with respect to its spatial acceleration."""
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
        return [(self.link, inertia, (*force, moment(self.point, force)))]

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
