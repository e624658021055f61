"""The unconstrained dynamics: inertia, passive and actuator forces (mj_passive, mj_fwdActuation)."""

from __future__ import annotations

import jax

from mjxppo.physics.elements import actuator_forces, tendon_forces
from mjxppo.physics.maths import Scalar, add, is_zero, mul, sub
from mjxppo.physics.planar.inertia import inertia_and_bias
from mjxppo.physics.planar.kinematics import Kinematics
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.sparse import Matrix


def smooth_dynamics(
    model: PlanarModel, kin: Kinematics, qpos: list[jax.Array], qvel: list[jax.Array], ctrl: list[jax.Array]
) -> tuple[Matrix, list[Scalar]]:
    """M and qfrc_smooth = qfrc_passive - qfrc_bias + qfrc_actuator; ``kin`` is the kinematics at qpos and qvel."""
    matrix, bias = inertia_and_bias(model, kin)
    actuation = actuator_forces(model.actuators, model.actuator_force_ranges, qpos, qvel, ctrl)
    of_tendons = tendon_forces(model.tendons, qpos, qvel)
    forces: list[Scalar] = []
    for k, link in enumerate(model.links):
        force = add(sub(actuation[k], bias[k]), of_tendons[k])
        if not is_zero(link.damping):
            force = sub(force, mul(link.damping, qvel[k]))
        if not is_zero(link.stiffness):
            force = sub(force, mul(link.stiffness, sub(qpos[k], link.qpos_spring)))
        forces.append(force)
    return matrix, forces
