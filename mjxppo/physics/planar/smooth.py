"""The unconstrained dynamics: inertia, passive and actuator forces (mj_passive, mj_fwdActuation)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.physics.maths import Scalar, add, is_zero, mul, sub, total
from mjxppo.physics.planar.inertia import inertia_and_bias
from mjxppo.physics.planar.kinematics import Kinematics
from mjxppo.physics.planar.model import Actuator, PlanarModel
from mjxppo.physics.sparse import Matrix


def smooth_dynamics(
    model: PlanarModel, kin: Kinematics, qpos: list[jax.Array], qvel: list[jax.Array], ctrl: list[jax.Array]
) -> tuple[Matrix, list[Scalar]]:
    """M and qfrc_smooth = qfrc_passive - qfrc_bias + qfrc_actuator; ``kin`` is the kinematics at qpos and qvel."""
    matrix, bias = inertia_and_bias(model, kin)
    actuation = actuator_forces(model, qpos, qvel, ctrl)
    forces: list[Scalar] = []
    for k, link in enumerate(model.links):
        force = sub(actuation[k], bias[k])
        if not is_zero(link.damping):
            force = sub(force, mul(link.damping, qvel[k]))
        if not is_zero(link.stiffness):
            force = sub(force, mul(link.stiffness, sub(qpos[k], link.qpos_spring)))
        forces.append(force)
    return matrix, forces


def actuator_forces(
    model: PlanarModel, qpos: list[jax.Array], qvel: list[jax.Array], ctrl: list[jax.Array]
) -> list[Scalar]:
    """qfrc_actuator, by dof."""
    forces: list[Scalar] = [0.0] * model.nv
    for actuator, control in zip(model.actuators, ctrl, strict=False):
        force = actuator_force(actuator, qpos[actuator.dof], qvel[actuator.dof], control)
        forces[actuator.dof] = add(forces[actuator.dof], mul(actuator.gear, force))
    for k, limits in enumerate(model.actuator_force_ranges):
        if limits is not None and not is_zero(forces[k]):
            forces[k] = jnp.clip(forces[k], *limits)
    return forces


def actuator_force(actuator: Actuator, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> Scalar:
    """Scalar force of one actuator: gain * ctrl + bias, clamped."""
    length, velocity = mul(actuator.gear, qpos), mul(actuator.gear, qvel)

    def affine(constant: Scalar, by_length: Scalar, by_velocity: Scalar) -> Scalar:
        return total(constant, mul(by_length, length), mul(by_velocity, velocity))

    if actuator.ctrlrange is not None:
        ctrl = jnp.clip(ctrl, *actuator.ctrlrange)
    force = add(mul(affine(*actuator.gain), ctrl), affine(*actuator.bias))
    return force if actuator.forcerange is None else jnp.clip(force, *actuator.forcerange)
