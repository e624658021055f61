"""The ``mjx`` backend: MJX's kinematics, dynamics, collision and constraint rows, with the solver of ``newton``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from jax import lax
from mujoco import mjx
from mujoco.mjx._src import math as mjx_math

from mjxppo.physics import sparse
from mjxppo.physics.base import Evaluation, Physics, PhysicsState
from mjxppo.physics.compiler import check_compiler
from mjxppo.physics.maths import total
from mjxppo.physics.mjx import newton
from mjxppo.physics.mjx.model import host_constants
from mjxppo.physics.mjx.rows import RowGroup, row_groups
from mjxppo.physics.mjx.support import check_supported
from mjxppo.physics.mjx.worlds import Worlds, collision, contact_forces, in_blocks, over_worlds, worlds_of
from mjxppo.physics.parameters import Parameters

Array = jax.Array
Carry = tuple[Array, Array, Array]
"""qpos [N, nq], qvel [N, nv] and the warm start [N, nv]."""


class MjxPhysics(Physics):
    """Steps worlds with MJX-JAX's own pipeline and rows; only the constraint solver and the factorisations differ.

    The model's ``solver``, ``iterations``, ``ls_iterations`` and ``tolerance`` are not used: the optimum that they
    approximate is found to convergence.

    Worlds are independent to the last bit: of each other's values, of their place in the batch and, on a CPU, of the
    batch's size.

    Raises:
        UserError: the model uses something that MJX-JAX or this backend does not implement.
    """

    name = "mjx"

    def __init__(self, model: mujoco.MjModel, frame_skip: int, platform: str | None = None):
        """Prepares the model for programs of the ``platform`` "cpu" or "gpu"; None: what this process computes on.

        Raises UserError where the backend would not compute what MuJoCo computes.
        """
        super().__init__(model, frame_skip)
        self.platform = platform
        check_supported(model)
        check_compiler()
        self._host = host_constants(model)
        self._row_groups = row_groups(model, *self._host)
        self._scale = float(model.stat.meaninertia) * model.nv

    def _step(self, state: PhysicsState, ctrl: Array) -> PhysicsState:
        worlds = worlds_of(self.model, self._host, state, self.platform)

        def env_step(qpos: Array, qvel: Array, warmstart: Array, ctrl: Array, own: Parameters) -> Carry:
            own_worlds = worlds._replace(parameters=own)

            def one(carry: Carry, _: None) -> tuple[Carry, None]:
                return self._mujoco_step(own_worlds, carry, ctrl)[0], None

            return lax.scan(one, (qpos, qvel, warmstart), None, length=self.frame_skip)[0]

        return PhysicsState(*in_blocks(env_step, worlds, state, ctrl))

    def check_contact_forces(self) -> None:
        pass

    def _step_with_contact_forces(self, state: PhysicsState, ctrl: Array) -> tuple[PhysicsState, Evaluation]:
        worlds = worlds_of(self.model, self._host, state, self.platform)

        def env_step(
            qpos: Array, qvel: Array, warmstart: Array, ctrl: Array, own: Parameters
        ) -> tuple[Carry, Evaluation]:
            own_worlds = worlds._replace(parameters=own)

            def one(carry: tuple[Carry, Any], _: None) -> tuple[tuple[Carry, Any], None]:
                return self._mujoco_step(own_worlds, carry[0], ctrl, keep_position=True), None

            start = (qpos, qvel, warmstart), (qpos, qvel)
            (moved, (qpos, qvel)), _ = lax.scan(one, start, None, length=self.frame_skip)
            return moved, Evaluation(qpos, qvel, contact_forces(own_worlds, qpos, qvel, moved[2]))

        moved, evaluation = in_blocks(env_step, worlds, state, ctrl)
        return PhysicsState(*moved), evaluation

    def _mujoco_step(
        self, worlds: Worlds, carry: Carry, ctrl: Array, keep_position: bool = False
    ) -> tuple[Carry, tuple[Array | None, Array]]:
        """The new state, and qpos (of RK4 only with ``keep_position``) and qvel of the last evaluated dynamics."""
        if self.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
            return self._rk4(worlds, carry, ctrl, keep_position)
        return self._semi_implicit(worlds, carry, ctrl), carry[:2]

    def _forward(
        self, worlds: Worlds, qpos: Array, qvel: Array, warmstart: Array, ctrl: Array
    ) -> tuple[Array, newton.Problem, Array]:
        """Accelerations [nv, N], and the problem that they solve and the damping (see ``build_problem``)."""
        problem, damping = build_problem(worlds, self._row_groups, qpos, qvel, ctrl)
        return jnp.stack(newton.solve(problem, list(warmstart.T), self._scale)), problem, damping

    def _semi_implicit(self, worlds: Worlds, carry: Carry, ctrl: Array) -> Carry:
        """Euler, implicit in joint damping unless the model turns that off, and implicitfast.

        Both solve (M + h B) a' = M a (the forces sum up to M a) where B is minus the forces' derivative with respect
        to the velocities. It is written so that only the difference of a' and a suffers from rounding.
        """
        m, (qpos, qvel, warmstart) = worlds.model, carry
        qacc, problem, damping = self._forward(worlds, qpos, qvel, warmstart, ctrl)
        dt, acceleration = m.opt.timestep, qacc
        if damping.shape[0]:
            matrix = dict(problem.mass)
            for i in range(m.nv):
                for j in range(i + 1) if damping.ndim == 3 else (i,):
                    value = dt * (damping[i, j] if damping.ndim == 3 else damping[i])
                    matrix[i, j] = matrix[i, j] + value if (i, j) in matrix else value
            rate = total(*(damping[:, j] * qacc[j] for j in range(m.nv))) if damping.ndim == 3 else damping * qacc
            change = sparse.solve(sparse.factorize(matrix, m.nv), list(dt * rate))
            acceleration = qacc - jnp.stack(change)
        qvel = qvel + dt * acceleration.T
        return _integrate_pos(m, qpos, qvel, dt), qvel, qacc.T

    def _rk4(
        self, worlds: Worlds, carry: Carry, ctrl: Array, keep_position: bool
    ) -> tuple[Carry, tuple[Array | None, Array]]:
        """Classical Runge-Kutta of order 4; each stage's solve starts from the stage before.

        Returns the new state, and qpos (None without ``keep_position``) and qvel of the last stage.
        """
        m, (qpos, qvel, warmstart) = worlds.model, carry
        dt, zero = m.opt.timestep, jnp.zeros_like(qvel)
        nodes = jnp.array([0, 0.5, 0.5, 1], qpos.dtype)
        weights = jnp.array([1, 2, 2, 1], qpos.dtype) / 6

        def stage(carry: tuple[Any, ...], tableau: tuple[Array, Array]) -> tuple[tuple[Any, ...], None]:
            velocity, acceleration, start, velocity_sum, acceleration_sum, _ = carry
            node, weight = tableau
            stage_qpos = _integrate_pos(m, qpos, node * velocity, dt)
            velocity = qvel + node * dt * acceleration
            qacc = self._forward(worlds, stage_qpos, velocity, start, ctrl)[0].T
            sums = velocity_sum + weight * velocity, acceleration_sum + weight * qacc
            return (velocity, qacc, qacc, *sums, stage_qpos if keep_position else None), None

        init = (zero, zero, warmstart, zero, zero, qpos if keep_position else None)
        (last_velocity, _, last, velocity, acceleration, position), _ = lax.scan(stage, init, (nodes, weights))
        moved = _integrate_pos(m, qpos, velocity, dt), qvel + dt * acceleration, last
        return moved, (position, last_velocity)


def build_problem(
    worlds: Worlds, groups: tuple[RowGroup, ...], qpos: Array, qvel: Array, ctrl: Array
) -> tuple[newton.Problem, Array]:
    """The solver's problem of N worlds, from qpos [N, nq], qvel [N, nv] and ctrl [N, nu], and the integrator's damping.

    The damping is minus the derivative of the forces with respect to the velocities, as far as the integrator is
    implicit in it: for Euler the joint damping [nv, 1 or N], for implicitfast [nv, nv, N], else empty.
    """
    m = worlds.model
    mass, force, jacobian, weight, reference, frictionloss, damping = _mjx_arrays(worlds, qpos, qvel, ctrl)
    if m.opt.integrator == mjx.IntegratorType.EULER and not m.opt.disableflags & mjx.DisableBit.EULERDAMP:
        own = worlds.parameters
        damping = own["dof_damping"].T if "dof_damping" in own else m.dof_damping[:, None]

    def group_jacobian(group: RowGroup) -> Array:
        rows = jacobian[group.start : group.stop]
        if group.diagonal:
            return jnp.stack([rows[r, i] for r, i in enumerate(group.dofs)])
        return jnp.stack([rows[:, i] for i in group.dofs], axis=1)

    def split(rows: Array) -> tuple[Array, ...]:
        return tuple(rows[group.start : group.stop] for group in groups)

    problem = newton.Problem(
        mass={(i, j): mass[i, j] for i in range(m.nv) for j in range(i + 1) if _share_a_branch(m, i, j)},
        force=tuple(force),
        jacobian=tuple(map(group_jacobian, groups)),
        weight=split(weight),
        reference=split(reference),
        frictionloss=split(frictionloss),
        groups=groups,
    )
    return problem, damping


def _mjx_arrays(worlds: Worlds, qpos: Array, qvel: Array, ctrl: Array) -> list[Array]:
    """The results of MJX's own functions for N worlds.

    The functions are called in the order of ``mjx.forward``, without those that a step does not need: the factorisation
    of M (LAPACK), cameras, sensors.

    Returns:
        M [nv, nv, N], qfrc_smooth [nv, N], the rows' J [rows, nv, N], D, aref and frictionloss [rows, N], and minus
        the derivative of the forces with respect to the velocities [nv, nv, N], empty but for implicitfast.
    """
    implicitfast = worlds.model.opt.integrator == mjx.IntegratorType.IMPLICITFAST

    def one_world(m: mjx.Model, qpos: Array, qvel: Array, ctrl: Array) -> tuple[Array, ...]:
        data = worlds.data.replace(qpos=qpos, qvel=qvel, ctrl=ctrl)
        for stage in (mjx.kinematics, mjx.com_pos, mjx.tendon, mjx.crb, mjx.tendon_armature):
            data = stage(m, data)
        data = collision(worlds, m, data)
        for stage in (mjx.make_constraint, mjx.transmission, mjx.fwd_velocity, mjx.fwd_actuation):
            data = stage(m, data)
        force = data.qfrc_passive - data.qfrc_bias + data.qfrc_actuator
        impl: Any = data._impl  # MJX has no public name for the fields of its JAX implementation.
        rows = (impl.efc_J, impl.efc_D, impl.efc_aref, impl.efc_frictionloss)
        derivative = mjx.deriv_smooth_vel(m, data) if implicitfast else None
        return (impl.M, force, *rows, jnp.zeros(0) if derivative is None else -derivative)

    return over_worlds(worlds, one_world, qpos, qvel, ctrl)


def _share_a_branch(m: mjx.Model, i: int, j: int) -> bool:
    """Whether dof j is dof i or above it in the kinematic tree: elsewhere the joint-space inertia is zero."""
    while i > j:
        i = int(m.dof_parentid[i])
    return i == j


def _integrate_pos(m: mjx.Model, qpos: Array, qvel: Array, dt: Array) -> Array:
    """Positions [N, nq] after moving at velocity [N, nv] for ``dt``, on the manifold of unit quaternions."""
    if m.nq == m.nv:  # hinges and slides only
        return qpos + dt * qvel
    turn = jax.vmap(mjx_math.quat_integrate, in_axes=(0, 0, None))
    parts = []
    for joint, q, v in zip(m.jnt_type, m.jnt_qposadr, m.jnt_dofadr, strict=True):
        kind = mujoco.mjtJoint(joint)
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            parts.append(qpos[:, q : q + 3] + dt * qvel[:, v : v + 3])
            q, v = q + 3, v + 3
        if kind in (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL):
            parts.append(turn(qpos[:, q : q + 4], qvel[:, v : v + 3], dt))
        else:
            parts.append(qpos[:, q : q + 1] + dt * qvel[:, v : v + 1])
    return jnp.concatenate(parts, axis=1)
