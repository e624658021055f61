"""Springs and limits of balls (engine_passive.c: mj_springdamper; engine_core_constraint.c: mj_instantiateLimit)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.physics.maths import Scalar, mul
from mjxppo.physics.problem import Arrays
from mjxppo.physics.rows import Row, impedance, row_offset, row_weight
from mjxppo.physics.spatial.kinematics import normalized
from mjxppo.physics.spatial.model import BallLimit, BallSpring
from mjxppo.physics.spatial.vector import length

_STILL = 1e-28
"""The squared sine of half an angle below which the angle's axis is not known."""


def spring_torque(spring: BallSpring, qpos: Arrays) -> list[Scalar]:
    """The torque on the ball's three dofs, from qpos, nq arrays [N]."""
    w, x, y, z = normalized(qpos[spring.qpos_at : spring.qpos_at + 4])
    a, b, c, d = spring.rest
    # The turn from the resting pose, in the body's own frame: conj(rest) * quaternion (mju_subQuat).
    turned = turn(
        a * w + b * x + c * y + d * z,
        a * x - b * w - c * z + d * y,
        a * y + b * z - c * w - d * x,
        a * z - b * y + c * x - d * w,
    )
    return [mul(-1.0, mul(spring.stiffness, component)) for component in turned]


def ball_limit_row(limit: BallLimit, qpos: Arrays, qvel: Arrays) -> Row:
    """The row of a ball's limit, from qpos, nq arrays [N], and qvel: it pushes against the axis of its turn."""
    turned = turn(*normalized(qpos[limit.qpos_at : limit.qpos_at + 4]))
    squared = sum((x * x for x in turned), jnp.zeros_like(turned[0]))
    angle = length(squared, _STILL)
    position = limit.angle - angle - limit.margin
    jacobian = {limit.dof_at + i: -x / angle for i, x in enumerate(turned)}
    velocity = sum((entry * qvel[dof] for dof, entry in jacobian.items()), jnp.zeros_like(angle))
    imp = impedance(limit.impedance, position)
    return Row(
        jacobian=dict[int, Scalar](jacobian),
        weight=row_weight(imp, limit.inv_weight, 1.0, position < 0.0, angle.dtype),
        offset=row_offset(limit.impedance, imp, velocity, position),
    )


def turn(w: jax.Array, x: jax.Array, y: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Axis times angle, at most pi, of a unit quaternion (mju_quat2Vel with a duration of 1)."""
    squared = x * x + y * y + z * z
    sine = length(squared, _STILL)
    angle = 2.0 * jnp.arctan2(sine, w)
    angle = jnp.where(angle > jnp.pi, angle - 2.0 * jnp.pi, angle)
    # The angle divided by the sine of its half tends to 2 / w.
    still = squared < _STILL
    share = jnp.where(still, 2.0 / jnp.where(still, w, 1.0), angle / sine)
    return share * x, share * y, share * z
