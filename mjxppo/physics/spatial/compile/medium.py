"""The medium that bodies move in: options ``density``, ``viscosity`` and ``wind`` of a compiled ``MjModel``."""

from __future__ import annotations

import math

import jax.numpy as jnp
import mujoco

from mjxppo.physics.maths import Scalar, add, maximum, mul, sub, total
from mjxppo.physics.planar.compile.common import disabled, link_of_joints, rounded, unsupported
from mjxppo.physics.planar.compile.support import INTEGRATORS
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.rows import MINVAL
from mjxppo.physics.spatial.compile.positions import Positions, constant, matrix
from mjxppo.physics.spatial.model import ImmersedBody, Medium
from mjxppo.physics.spatial.vector import Vector, sub3
from mjxppo.physics.tree import WORLD


def compile_medium(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector]
) -> Medium | None:
    """The medium, or None where it resists nothing; ``origins`` are the links' in the world at qpos0."""
    if not (model.opt.density or model.opt.viscosity) or (disabled(model, "SPRING") and disabled(model, "DAMPER")):
        return None
    if INTEGRATORS[int(model.opt.integrator)] == "implicitfast":
        raise unsupported("a medium (option density or viscosity) with the integrator implicitfast")
    bodies = []
    for body in range(1, model.nbody):
        link = link_of_joints(model, body)
        if link != WORLD and model.body_mass[body] >= MINVAL:
            bodies.append(_immersed(model, values, pose, positions, body, link, origins[link]))
    return Medium(constant(model.opt.wind), tuple(bodies))


def _immersed(
    model: mujoco.MjModel,
    values: Values,
    pose: mujoco.MjData,
    positions: Positions,
    body: int,
    link: int,
    origin: Vector,
) -> ImmersedBody:
    density, viscosity = float(model.opt.density), float(model.opt.viscosity)
    x, y, z = _box(values, body)
    diameter = mul(1 / 3, total(x, y, z))
    com = sub3(positions.center_of_mass(body), origin)
    return ImmersedBody(
        link=link,
        com=(rounded(com[0]), rounded(com[1]), rounded(com[2])),
        axes=matrix(pose.ximat[body]),
        viscous_force=mul(3 * math.pi * viscosity, diameter),
        viscous_torque=mul(math.pi * viscosity, _power(diameter, 3)),
        drag=(mul(0.5 * density, mul(y, z)), mul(0.5 * density, mul(x, z)), mul(0.5 * density, mul(x, y))),
        turning_drag=(_turning(density, x, y, z), _turning(density, y, x, z), _turning(density, z, x, y)),
    )


def _box(values: Values, body: int) -> Vector:
    """The edges of a box of uniform density that has a body's mass and inertia (m)."""
    a, b, c = (values("body_inertia", body, i) for i in range(3))
    mass = values("body_mass", body)

    def edge(one: Scalar, two: Scalar, own: Scalar) -> Scalar:
        squared = maximum(MINVAL, sub(add(one, two), own)) / mass * 6.0
        return math.sqrt(squared) if isinstance(squared, float) else jnp.sqrt(squared)

    return edge(b, c, a), edge(a, c, b), edge(a, b, c)


def _turning(density: float, along: Scalar, one: Scalar, other: Scalar) -> Scalar:
    return mul(density / 64, mul(along, add(_power(one, 4), _power(other, 4))))


def _power(base: Scalar, exponent: int) -> Scalar:
    power = base
    for _ in range(exponent - 1):
        power = mul(power, base)
    return power
