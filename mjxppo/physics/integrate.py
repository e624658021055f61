"""One physics step: constrained acceleration, then Euler or Runge-Kutta (mj_Euler, mj_RungeKutta)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import lax

from mjxppo.physics.elements import actuator_damping
from mjxppo.physics.maths import Scalar, add, as_array, is_zero, mul
from mjxppo.physics.problem import Arrays, Problem
from mjxppo.physics.sparse import factorize, multiply, solve

State = tuple[Arrays, Arrays, Arrays]
"""qpos, nq arrays [N], qvel and the solver's next starting point, nv arrays [N] each."""
Solver = Callable[[Any, Problem, Arrays], Arrays]
"""From a model, a problem and a starting point to qacc."""


class Dynamics(NamedTuple):
    """What a backend knows of its models."""

    build_problem: Callable[[Any, Arrays, Arrays, Arrays], Problem]
    """The problem of N worlds, from the model, qpos, qvel and ctrl (mj_fwdPosition, mj_fwdVelocity,
    mj_fwdActuation).
    """
    advance_qpos: Callable[[Any, Arrays, Arrays, Scalar], Arrays]
    """qpos after moving at a qvel for a duration (mj_integratePos)."""


def step(dynamics: Dynamics, model: Any, state: State, ctrl: Arrays, solver: Solver) -> State:
    """One MuJoCo step."""
    return (runge_kutta_step if model.integrator == "rk4" else euler_step)(dynamics, model, state, ctrl, solver)


def step_and_evaluation(
    dynamics: Dynamics, model: Any, state: State, ctrl: Arrays, solver: Solver
) -> tuple[State, tuple[Arrays, Arrays]]:
    """One MuJoCo step, and the qpos and qvel at which the dynamics were last evaluated: their qacc is the new state's.

    After a step ``mjData`` holds the quantities of that evaluation: ``xpos``, ``cfrc_ext``. It is the start of an Euler
    step, and the fourth stage of Runge-Kutta's.
    """
    if model.integrator != "rk4":
        return euler_step(dynamics, model, state, ctrl, solver), (state[0], state[1])
    return _runge_kutta(dynamics, model, state, ctrl, solver, keep_position=True)


def advance(x: Arrays, rate: Arrays, duration: Scalar) -> Arrays:
    """The values x after moving at the given rates."""
    return [a + duration * b for a, b in zip(x, rate, strict=True)]


def euler_step(dynamics: Dynamics, model: Any, state: State, ctrl: Arrays, solver: Solver) -> State:
    """Semi-implicit Euler, or implicitfast: (M + h B) x = M qacc (Computation: "Numerical integration").

    B is the joints' damping (eulerdamp), for implicitfast with that of actuators.
    """
    qpos, qvel, start = state
    h, damping = model.timestep, model.dof_damping
    problem = dynamics.build_problem(model, qpos, qvel, ctrl)
    qacc = solver(model, problem, start)
    rate = qacc
    if model.integrator == "implicitfast":
        of_actuators = actuator_damping(model.actuators, model.qpos_by_dof(qpos), qvel, ctrl)
        damping = [add(b, own) for b, own in zip(damping, of_actuators, strict=True)]
    elif not model.implicit_damping:
        damping = [0.0] * model.nv
    if not all(is_zero(b) for b in damping):
        matrix = dict(problem.inertia)
        for k, b in enumerate(damping):
            matrix[k, k] = add(matrix[k, k], mul(h, b))
        momentum = multiply(problem.inertia, list(qacc))
        rate = [as_array(x, qpos[0]) for x in solve(factorize(matrix, model.nv), momentum)]
    qvel = advance(qvel, rate, h)
    return dynamics.advance_qpos(model, qpos, qvel, h), qvel, qacc


def runge_kutta_step(dynamics: Dynamics, model: Any, state: State, ctrl: Arrays, solver: Solver) -> State:
    """The classical fourth-order method; every stage's solve starts from the stage before."""
    return _runge_kutta(dynamics, model, state, ctrl, solver, keep_position=False)[0]


def _runge_kutta(
    dynamics: Dynamics, model: Any, state: State, ctrl: Arrays, solver: Solver, keep_position: bool
) -> tuple[State, tuple[Arrays, Arrays]]:
    """The new state, and the last stage's qpos (empty without ``keep_position``) and qvel.

    One loop over the four stages, so that the dynamics are compiled once; the first stage moves by zero.
    """
    qpos, qvel, start = state
    h, number = model.timestep, qpos[0].dtype.type

    def stage(i, carry):
        velocity, acceleration, velocity_sum, acceleration_sum, _ = carry
        # Selects rather than a table, which a Pallas kernel could not index.
        share = lax.select(i == 0, number(0.0), lax.select(i == 3, number(h), number(0.5 * h)))
        weight = lax.select((i == 0) | (i == 3), number(1 / 6), number(1 / 3))
        position = dynamics.advance_qpos(model, qpos, velocity, share)
        velocity = advance(qvel, acceleration, share)
        acceleration = solver(model, dynamics.build_problem(model, position, velocity, ctrl), acceleration)
        return (
            velocity,
            acceleration,
            advance(velocity_sum, velocity, weight),
            advance(acceleration_sum, acceleration, weight),
            position if keep_position else [],
        )

    zeros = [0.0 * x for x in qvel]
    carry = qvel, start, zeros, zeros, qpos if keep_position else []
    velocity, qacc, velocity_sum, acceleration_sum, position = lax.fori_loop(0, 4, stage, carry)
    moved = dynamics.advance_qpos(model, qpos, velocity_sum, h), advance(qvel, acceleration_sum, h), qacc
    return moved, (position, velocity)
