"""The problem of a planar tree: see ``physics.problem``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jax.tree_util import register_dataclass

from mjxppo.physics import problem
from mjxppo.physics.elements import friction_row, limit_rows
from mjxppo.physics.maths import Scalar, add
from mjxppo.physics.planar.constraint import plane_rows
from mjxppo.physics.planar.inertia import (
    ZERO_FORCE,
    ZERO_INERTIA,
    Force,
    SpatialInertia,
    joint_forces,
    joint_space,
)
from mjxppo.physics.planar.kinematics import Motion, forward_kinematics, spatial_motions
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.planar.pair import pair_rows
from mjxppo.physics.planar.smooth import smooth_dynamics
from mjxppo.physics.problem import Arrays
from mjxppo.physics.rows import Row
from mjxppo.physics.sparse import Matrix


@register_dataclass
@dataclass(frozen=True)
class Problem(problem.Problem):
    """The convex problem of one state."""

    def _link_motions(self, model: PlanarModel, rates: Arrays) -> list[Motion]:
        return spatial_motions(model, self.axes, rates)

    def _joint_space(
        self, model: PlanarModel, at_links: Iterable[tuple[int, SpatialInertia, Force]]
    ) -> tuple[Matrix, list[Scalar]]:
        inertias = [ZERO_INERTIA] * model.nv
        forces = [ZERO_FORCE] * model.nv
        for link, inertia, force in at_links:
            inertias[link] = _sum(inertias[link], inertia)
            forces[link] = _sum(forces[link], force)
        return joint_space(model, self.axes, inertias), joint_forces(model, self.axes, forces)


def build_problem(model: PlanarModel, qpos: Arrays, qvel: Arrays, ctrl: Arrays) -> Problem:
    """The problem of N worlds, from qpos, qvel and ctrl, arrays [N] (mj_fwdPosition, mj_fwdVelocity,
    mj_fwdActuation).
    """
    kin = forward_kinematics(model, qpos, qvel)
    inertia, force = smooth_dynamics(model, kin, qpos, qvel, ctrl)
    rows: list[Row] = []
    for limit in model.limits:
        rows += limit_rows(limit, qpos[limit.dof], qvel[limit.dof])
    rows += [friction_row(friction, qvel[friction.dof]) for friction in model.frictions]
    for pair in model.pair_contacts:
        rows += pair_rows(model, pair, kin, qvel)
    planes = [plane_rows(model, contact, kin, qpos[0]) for contact in model.plane_contacts]
    return Problem(kin.axes, inertia, force, planes, rows)


def _sum(a: tuple[Scalar, ...], b: tuple[Scalar, ...]):
    return tuple(add(x, y) for x, y in zip(a, b, strict=True))
