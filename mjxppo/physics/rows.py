"""Scalar constraint rows and the parameters of a constraint: terms of the solver's cost.

Every row i contributes D_i/2 min(0, r_i)^2 to the solver's cost, with the residual r = J qacc - aref (MuJoCo
documentation, Computation: "Constraint model"). Dry friction of a joint is a row of another form, ``FrictionRow``.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, add, mul, total
from mjxppo.physics.sparse import Matrix

MINVAL = 1e-15
"""mjMINVAL."""


@register_dataclass
@dataclass(frozen=True)
class Impedance:
    """solref and solimp of one constraint, as MuJoCo uses them (Computation: "Solver parameters")."""

    stiffness: Scalar
    """k = 1 / (dmax timeconst dampratio)^2; multiplied by the impedance and the violation."""
    damping: Scalar
    """b = 2 / (dmax timeconst)."""
    dmin: Scalar
    dmax: Scalar
    width: Scalar
    midpoint: Scalar
    power: float


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

    def one_sided(self, residual: jax.Array) -> list[tuple[Scalar, Scalar]]:
        """(D, r) of rows that push where r is negative: the cost's pieces meet where one of them changes sign."""
        return [(self.weight, residual)]

    def add_to(self, gradient: list[Scalar], hessian: Matrix, residual: jax.Array) -> None:
        """Adds the cost's gradient D r J and its Hessian D J^T J, in place."""
        d = jnp.where(residual < 0.0, self.weight, 0.0)
        for k, entry in self.jacobian.items():
            scaled = mul(entry, d)
            gradient[k] = add(gradient[k], mul(scaled, residual))
            for j, other in self.jacobian.items():
                if j <= k:
                    # A sign squared (a limit's Jacobian) is 1.
                    product = d if self.unit else mul(scaled, other)
                    hessian[k, j] = add(hessian.get((k, j), 0.0), product)


@dataclass(frozen=True)
class FrictionRow(Row):
    """Dry friction: D/2 r^2 up to the loss eta = ``loss``, where D |r| = eta, and from there on a line with that slope.

    (Computation: "Friction loss".)
    """

    loss: Scalar = 0.0
    """The largest friction force, N or N m."""

    def derivatives(self, residual: jax.Array, rate: jax.Array) -> tuple[Scalar, Scalar]:
        force, curvature = self._pull(residual)
        return force * rate, curvature * rate * rate

    def one_sided(self, residual: jax.Array) -> list[tuple[Scalar, Scalar]]:
        reach = self.loss / self.weight
        return [(self.weight, residual - reach), (self.weight, residual + reach)]

    def add_to(self, gradient: list[Scalar], hessian: Matrix, residual: jax.Array) -> None:
        force, curvature = self._pull(residual)
        ((k, sign),) = self.jacobian.items()
        gradient[k] = add(gradient[k], mul(sign, force))
        hessian[k, k] = add(hessian[k, k], curvature)

    def _pull(self, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """First and second derivative of the cost with respect to the residual."""
        force = self.weight * residual
        sliding = jnp.abs(force) >= self.loss
        return jnp.clip(force, -self.loss, self.loss), jnp.where(sliding, 0.0, self.weight)


register_dataclass(Row, data_fields=["jacobian", "weight", "offset"], meta_fields=["unit"])
register_dataclass(FrictionRow, data_fields=["jacobian", "weight", "offset", "loss"], meta_fields=["unit"])


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
