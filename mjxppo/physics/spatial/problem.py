"""The problem of a tree in three dimensions: see ``physics.problem``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jax.tree_util import register_dataclass

from mjxppo.physics import problem
from mjxppo.physics.elements import friction_row, limit_rows
from mjxppo.physics.maths import Scalar
from mjxppo.physics.problem import Arrays
from mjxppo.physics.rows import Row
from mjxppo.physics.sparse import Matrix
from mjxppo.physics.spatial.ball import ball_limit_row
from mjxppo.physics.spatial.contact_rows import contact_groups
from mjxppo.physics.spatial.inertia import (
    NO_FORCE,
    NO_INERTIA,
    Force,
    SpatialInertia,
    add_forces,
    joint_forces,
    joint_space,
)
from mjxppo.physics.spatial.kinematics import Motion, forward_kinematics, spatial_motions
from mjxppo.physics.spatial.model import SpatialModel
from mjxppo.physics.spatial.pair import pair_rows
from mjxppo.physics.spatial.smooth import smooth_dynamics


@register_dataclass
@dataclass(frozen=True)
class Problem(problem.Problem):
    """The convex problem of one state."""

    def _link_motions(self, model: SpatialModel, rates: Arrays) -> list[Motion]:
        return spatial_motions(model, self.axes, rates)

    def _joint_space(
        self, model: SpatialModel, at_links: Iterable[tuple[int, SpatialInertia, Force]]
    ) -> tuple[Matrix, list[Scalar]]:
        inertias = [NO_INERTIA] * len(model.links)
        forces = [NO_FORCE] * len(model.links)
        for link, inertia, force in at_links:
            inertias[link] = inertias[link].plus(inertia)
            forces[link] = add_forces(forces[link], force)
        return joint_space(model, self.axes, inertias), joint_forces(model, self.axes, forces)


def build_problem(model: SpatialModel, qpos: Arrays, qvel: Arrays, ctrl: Arrays, together: bool = True) -> Problem:
    """The problem of N worlds, from qpos, nq arrays [N], qvel and ctrl (mj_fwdPosition, mj_fwdVelocity,
    mj_fwdActuation). ``together`` as in ``contact_groups``.
    """
    kin = forward_kinematics(model, qpos, qvel)
    inertia, force = smooth_dynamics(model, kin, qpos, qvel, ctrl)
    rows: list[Row] = []
    for limit in model.limits:
        rows += limit_rows(limit, qpos[model.qpos_of_dof[limit.dof]], qvel[limit.dof])
    rows += [ball_limit_row(limit, qpos, qvel) for limit in model.ball_limits]
    rows += [friction_row(friction, qvel[friction.dof]) for friction in model.frictions]
    for pair in model.pair_contacts:
        rows += pair_rows(model, pair, kin, qvel)
    return Problem(kin.axes, inertia, force, contact_groups(model, kin, qpos[0], together), rows)
