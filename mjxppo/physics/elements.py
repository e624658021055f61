"""Joint limits and friction, actuators and contact parameters, of planar and spatial models (mj_instantiateLimit)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from mjxppo.physics.maths import Scalar, add, as_array, is_zero, mul, sub, total
from mjxppo.physics.rows import MINVAL, FrictionRow, Impedance, Row, impedance, row_offset, row_weight

Integrator = Literal["euler", "implicitfast", "rk4"]


@register_dataclass
@dataclass(frozen=True)
class Limit:
    """A joint limit: active where a distance to an end of the range is below the margin."""

    dof: int
    sides: tuple[Literal["lower", "upper", "nearest"], ...]
    """One row for each; "nearest" where both ends can never be active at once."""
    lower: Scalar
    upper: Scalar
    margin: Scalar
    inv_weight: Scalar
    impedance: Impedance


@register_dataclass
@dataclass(frozen=True)
class FrictionLoss:
    """Dry friction of a dof."""

    dof: int
    loss: Scalar
    """The largest force, N or N m."""
    inv_weight: Scalar
    impedance: Impedance


@register_dataclass
@dataclass(frozen=True)
class Tendon:
    """The spring and damper of a fixed tendon, whose length is a weighted sum of positions of slides and hinges."""

    weights: tuple[tuple[int, float], ...]
    """Dofs, each with its weight."""
    stiffness: float
    damping: float
    rest: tuple[float, float]
    """The lengths between which the spring is slack."""


@register_dataclass
@dataclass(frozen=True)
class Actuator:
    """A joint actuator: force = gain * ctrl + bias, both affine in the actuator's length and velocity."""

    dof: int
    gear: Scalar
    gain: tuple[Scalar, Scalar, Scalar]
    bias: tuple[Scalar, Scalar, Scalar]
    ctrlrange: tuple[float, float] | None
    forcerange: tuple[float, float] | None


@register_dataclass
@dataclass(frozen=True)
class ContactParameters:
    """Contact parameters that MuJoCo combines from two geoms."""

    condim: Literal[1, 3]
    friction: Scalar
    margin: Scalar
    inv_weight: Scalar
    """Sum of the two bodies' translational ``body_invweight0``."""
    impedance: Impedance


def limit_rows(limit: Limit, qpos: jax.Array, qvel: jax.Array) -> list[Row]:
    """The rows of a joint's limits: one, or two where both ends can be active at once."""
    rows = []
    below, above = qpos - limit.lower, limit.upper - qpos
    for side in limit.sides:
        sign: Scalar
        if side == "nearest":
            position = jnp.minimum(below, above) - limit.margin
            sign = jnp.where(below < above, 1.0, -1.0).astype(qpos.dtype)
        else:
            position = (below if side == "lower" else above) - limit.margin
            sign = 1.0 if side == "lower" else -1.0
        imp = impedance(limit.impedance, position)
        rows.append(
            Row(
                jacobian={limit.dof: sign},
                weight=row_weight(imp, limit.inv_weight, 1.0, position < 0.0, qpos.dtype),
                offset=row_offset(limit.impedance, imp, mul(sign, qvel), position),
                unit=True,
            )
        )
    return rows


def friction_row(friction: FrictionLoss, qvel: jax.Array) -> Row:
    """The row of a dof's dry friction (mj_instantiateFriction), at its velocity ``qvel`` [N]; its position is 0."""
    here = jnp.zeros_like(qvel)
    imp = impedance(friction.impedance, here)
    return FrictionRow(
        jacobian={friction.dof: 1.0},
        weight=row_weight(imp, friction.inv_weight, 1.0, here == 0.0, qvel.dtype),
        offset=mul(friction.impedance.damping, qvel),
        unit=True,
        loss=friction.loss,
    )


def tendon_forces(tendons: Sequence[Tendon], positions: list[jax.Array], velocities: list[jax.Array]) -> list[Scalar]:
    """Passive forces of tendons, by dof, from positions and velocities by dof (mj_passive)."""
    forces: list[Scalar] = [0.0] * len(velocities)
    for tendon in tendons:
        length = total(*(mul(weight, positions[dof]) for dof, weight in tendon.weights))
        rate = total(*(mul(weight, velocities[dof]) for dof, weight in tendon.weights))
        stretched = sub(length, jnp.clip(length, *tendon.rest))
        pull = add(mul(tendon.stiffness, stretched), mul(tendon.damping, rate))
        for dof, weight in tendon.weights:
            forces[dof] = sub(forces[dof], mul(weight, pull))
    return forces


def diagonal(impratio: Scalar, parameters: ContactParameters) -> tuple[Scalar, Scalar]:
    """A contact's approximate J M^-1 J^T, and the factor on R of its pyramid's edges (mj_makeImpedance).

    All edges of a pyramid get R = 2 mu^2 R_0 with the regularised mu^2 = friction^2 / impratio, R_0 being that
    of the first edge, whose diagonal is (1 + friction^2) inv_weight.
    """
    if parameters.condim == 1:
        return parameters.inv_weight, 1.0
    squared = parameters.friction * parameters.friction
    impratio = max(impratio, MINVAL) if isinstance(impratio, float) else impratio
    return parameters.inv_weight + squared * parameters.inv_weight, 2.0 * squared / impratio


def actuator_forces(
    actuators: Sequence[Actuator],
    force_ranges: Sequence[tuple[float, float] | None],
    positions: list[jax.Array],
    velocities: list[jax.Array],
    ctrl: list[jax.Array],
) -> list[Scalar]:
    """qfrc_actuator, by dof, from positions and velocities by dof; ``force_ranges`` bound the sum of each dof."""
    forces: list[Scalar] = [0.0] * len(velocities)
    for actuator, control in zip(actuators, ctrl, strict=False):
        force = actuator_force(actuator, positions[actuator.dof], velocities[actuator.dof], control)
        forces[actuator.dof] = add(forces[actuator.dof], mul(actuator.gear, force))
    for k, limits in enumerate(force_ranges):
        if limits is not None and not is_zero(forces[k]):
            forces[k] = jnp.clip(forces[k], *limits)
    return forces


def actuator_damping(
    actuators: Sequence[Actuator], positions: list[jax.Array], velocities: list[jax.Array], ctrl: list[jax.Array]
) -> list[Scalar]:
    """Minus the derivative of each dof's actuator forces with respect to its velocity (mjd_actuator_vel).

    Arguments as for ``actuator_forces``. That of an actuator whose force is clamped is 0.
    """
    damping: list[Scalar] = [0.0] * len(velocities)
    for actuator, control in zip(actuators, ctrl, strict=False):
        dof = actuator.dof
        rate = add(actuator.bias[2], mul(actuator.gain[2], _clamped(actuator, control)))
        if is_zero(rate):
            continue
        if actuator.forcerange is not None:
            force = as_array(actuator_force(actuator, positions[dof], velocities[dof], control), control)
            low, high = actuator.forcerange
            rate = jnp.where((force <= low) | (force >= high), 0.0, rate)
        damping[dof] = sub(damping[dof], mul(mul(actuator.gear, actuator.gear), rate))
    return damping


def actuator_force(actuator: Actuator, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> Scalar:
    """Scalar force of one actuator: gain * ctrl + bias, clamped."""
    length, velocity = mul(actuator.gear, qpos), mul(actuator.gear, qvel)

    def affine(constant: Scalar, by_length: Scalar, by_velocity: Scalar) -> Scalar:
        return total(constant, mul(by_length, length), mul(by_velocity, velocity))

    force = add(mul(affine(*actuator.gain), _clamped(actuator, ctrl)), affine(*actuator.bias))
    return force if actuator.forcerange is None else jnp.clip(force, *actuator.forcerange)


def _clamped(actuator: Actuator, ctrl: jax.Array) -> jax.Array:
    """A control within the actuator's range."""
    return ctrl if actuator.ctrlrange is None else jnp.clip(ctrl, *actuator.ctrlrange)
