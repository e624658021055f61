"""The spatial backend behind the physics interface."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.physics.base import Evaluation, PhysicsState
from mjxppo.physics.columns import ColumnPhysics, columns_of, state_columns, state_of
from mjxppo.physics.integrate import Dynamics, State, step_and_evaluation
from mjxppo.physics.maths import Scalar, sincos
from mjxppo.physics.problem import Arrays
from mjxppo.physics.spatial.compile import compile_model
from mjxppo.physics.spatial.contact_forces import check_contact_forces, contact_forces
from mjxppo.physics.spatial.kinematics import normalized
from mjxppo.physics.spatial.model import SpatialModel
from mjxppo.physics.spatial.problem import build_problem
from mjxppo.physics.spatial.vector import length


def advance_qpos(model: SpatialModel, qpos: Arrays, qvel: Arrays, duration: Scalar) -> Arrays:
    """qpos, nq arrays [N], after moving at qvel, nv arrays [N], for a duration (mj_integratePos)."""
    moved = list(qpos)
    for link in model.links:
        at, dof = link.qpos_at, link.dof_at
        if link.kind == "ball":
            moved[at : at + 4] = _turned(qpos[at : at + 4], qvel[dof : dof + 3], duration)
            continue
        for i in range(3 if link.kind == "free" else 1):
            moved[at + i] = qpos[at + i] + duration * qvel[dof + i]
        if link.kind == "free":
            moved[at + 3 : at + 7] = _turned(qpos[at + 3 : at + 7], qvel[dof + 3 : dof + 6], duration)
    return moved


def _turned(quaternion: Arrays, rate: Arrays, duration: Scalar) -> Arrays:
    """A unit quaternion after turning at an angular velocity of the body's own frame (mju_quatIntegrate)."""
    x, y, z = rate
    squared = x * x + y * y + z * z
    still, speed = squared < 1e-28, length(squared, 1e-28)
    sin, cos = sincos(0.5 * duration * speed)
    # sin(angle / 2) / speed, which tends to half the duration.
    share = jnp.where(still, 0.5 * duration, sin / speed)
    cos = jnp.where(still, 1.0, cos)
    a, (b, c, d) = cos, (share * x, share * y, share * z)
    w, i, j, k = normalized(quaternion)
    turned: list[jax.Array] = [
        w * a - i * b - j * c - k * d,
        w * b + i * a + j * d - k * c,
        w * c - i * d + j * a + k * b,
        w * d + i * c - j * b + k * a,
    ]
    return list(normalized(turned))


class SpatialPhysics(ColumnPhysics):
    """MuJoCo's algorithm for trees of free joints, balls, hinges and slides in any direction."""

    kind = "spatial"
    dynamics = Dynamics(build_problem, advance_qpos)
    cpu_block = 64
    compile = staticmethod(compile_model)

    def check_contact_forces(self) -> None:
        check_contact_forces(self.model)

    def _step_with_contact_forces(self, state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, Evaluation]:
        def step_block(model: SpatialModel, state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, Evaluation]:
            controls, solver, columns = columns_of(ctrl), self._solver(), state_columns(state)

            def one_step(_: int, carry: tuple[State, tuple[Arrays, Arrays]]) -> tuple[State, tuple[Arrays, Arrays]]:
                return step_and_evaluation(self.dynamics, model, carry[0], controls, solver)

            moved, (qpos, qvel) = lax.fori_loop(0, self.frame_skip, one_step, (columns, columns[:2]))
            forces = contact_forces(model, self.model.nbody, qpos, qvel, moved[2])
            evaluated = jnp.stack(qpos, axis=-1), jnp.stack(qvel, axis=-1)
            return state_of(moved), Evaluation(*evaluated, forces)

        stepped: tuple[PhysicsState, Evaluation] = self._in_blocks(step_block, state, ctrl)
        return stepped
