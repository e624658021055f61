"""The unconstrained dynamics: inertia, passive and actuator forces (mj_passive, mj_fwdActuation)."""

from __future__ import annotations

import jax

from mjxppo.physics.elements import actuator_forces, tendon_forces
from mjxppo.physics.maths import Scalar, add, is_zero, mul, sub, total
from mjxppo.physics.sparse import Matrix
from mjxppo.physics.spatial.ball import spring_torque
from mjxppo.physics.spatial.fluid import medium_forces
from mjxppo.physics.spatial.inertia import inertia_and_bias, joint_forces
from mjxppo.physics.spatial.kinematics import Kinematics
from mjxppo.physics.spatial.model import SpatialModel


def smooth_dynamics(
    model: SpatialModel, kin: Kinematics, qpos: list[jax.Array], qvel: list[jax.Array], ctrl: list[jax.Array]
) -> tuple[Matrix, list[Scalar]]:
    """M and qfrc_smooth = qfrc_passive - qfrc_bias + qfrc_actuator; ``kin`` is the kinematics at qpos and qvel."""
    matrix, bias = inertia_and_bias(model, kin)
    # Of balls and free joints, which have no actuators and whose springs come last, any number stands here.
    by_dof = model.qpos_by_dof(qpos)
    actuation = actuator_forces(model.actuators, model.actuator_force_ranges, by_dof, qvel, ctrl)
    of_tendons = tendon_forces(model.tendons, by_dof, qvel)
    resistance: list[Scalar] = [0.0] * model.nv
    if model.medium is not None:
        resistance = joint_forces(model, kin.axes, medium_forces(model.medium, len(model.links), kin, qpos[0]))
    forces: list[Scalar] = []
    for k, dof in enumerate(model.dofs):
        force = total(sub(actuation[k], bias[k]), resistance[k], of_tendons[k])
        if not is_zero(dof.damping):
            force = sub(force, mul(dof.damping, qvel[k]))
        if not is_zero(dof.stiffness):
            force = sub(force, mul(dof.stiffness, sub(by_dof[k], dof.qpos_spring)))
        forces.append(force)
    for spring in model.ball_springs:
        for i, torque in enumerate(spring_torque(spring, qpos)):
            forces[spring.dof_at + i] = add(forces[spring.dof_at + i], torque)
    return matrix, forces
