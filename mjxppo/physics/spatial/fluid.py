"""Forces of a medium on moving bodies, by MuJoCo's inertia model (engine_passive.c: mj_inertiaBoxFluidModel).

Each body is taken for the box that has its mass and inertia. The medium resists its velocity and its angular velocity
along the box's axes, in proportion to them (viscosity) and to their squares (density).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.physics.maths import Scalar, as_array, is_zero, mul, sub
from mjxppo.physics.spatial.inertia import NO_FORCE, Force, add_forces
from mjxppo.physics.spatial.kinematics import Kinematics, point_motion
from mjxppo.physics.spatial.model import ImmersedBody, Medium
from mjxppo.physics.spatial.vector import Vector, add3, apply, cross, product, sub3, transposed


def medium_forces(medium: Medium, num_links: int, kin: Kinematics, like: jax.Array) -> list[Force]:
    """The medium's force on each link; ``like`` [N] gives the shape of the worlds' numbers."""
    forces = [NO_FORCE] * num_links
    for body in medium.bodies:
        forces[body.link] = add_forces(forces[body.link], _force(body, medium.wind, kin, like))
    return forces


def _force(body: ImmersedBody, wind: Vector, kin: Kinematics, like: jax.Array) -> Force:
    frame, motion = kin.frames[body.link], kin.velocities[body.link]
    axes = product(frame.rotation, body.axes)
    center = frame.point(body.com)
    to_box = transposed(axes)
    velocity = apply(to_box, sub3(point_motion(motion, center), wind))
    rate = apply(to_box, motion.angular)
    force = apply(axes, _resistance(velocity, body.viscous_force, body.drag, like))
    torque = apply(axes, _resistance(rate, body.viscous_torque, body.turning_drag, like))
    return Force(force, add3(torque, cross(center, force)))


def _resistance(rate: Vector, viscous: Scalar, drag: Vector, like: jax.Array) -> Vector:
    """-viscous v - drag |v| v, for each component."""

    def along(v: Scalar, quadratic: Scalar) -> Scalar:
        resisted = mul(-1.0, mul(viscous, v))
        if is_zero(v) or is_zero(quadratic):
            return resisted
        return sub(resisted, mul(quadratic, mul(jnp.abs(as_array(v, like)), v)))

    return along(rate[0], drag[0]), along(rate[1], drag[1]), along(rate[2], drag[2])
