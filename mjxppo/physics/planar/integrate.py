"""One physics step: constrained acceleration, then Euler or Runge-Kutta (mj_Euler, mj_RungeKutta)."""

from __future__ import annotations

from collections.abc import Callable

from jax import lax

from mjxppo.physics.maths import Scalar, add, as_array, is_zero, mul
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.planar.problem import Arrays, Problem, build_problem
from mjxppo.physics.sparse import factorize, multiply, solve

State = tuple[Arrays, Arrays, Arrays]
"""qpos, qvel and the solver's next starting point, each nv arrays [N]."""
Solver = Callable[[PlanarModel, Problem, Arrays], Arrays]
"""From a problem and a starting point to qacc."""


def forward(
    model: PlanarModel, qpos: Arrays, qvel: Arrays, ctrl: Arrays, start: Arrays, solver: Solver
) -> tuple[Arrays, Problem]:
    """qacc, and the problem it solves (mj_forward)."""
    problem = build_problem(model, qpos, qvel, ctrl)
    return solver(model, problem, start), problem


def step(model: PlanarModel, state: State, ctrl: Arrays, solver: Solver) -> State:
    """One MuJoCo step."""
    return (euler_step if model.integrator == "euler" else runge_kutta_step)(model, state, ctrl, solver)


def advance(x: Arrays, rate: Arrays, duration: Scalar) -> Arrays:
    """The values x after moving at the given rates."""
    return [a + duration * b for a, b in zip(x, rate, strict=True)]


def euler_step(model: PlanarModel, state: State, ctrl: Arrays, solver: Solver) -> State:
    """Semi-implicit Euler, joint damping implicit: (M + h B) x = M qacc (Computation: "Numerical integration")."""
    qpos, qvel, start = state
    h = model.timestep
    qacc, problem = forward(model, qpos, qvel, ctrl, start, solver)
    rate = qacc
    if model.implicit_damping and not all(is_zero(link.damping) for link in model.links):
        matrix = dict(problem.inertia)
        for k, link in enumerate(model.links):
            matrix[k, k] = add(matrix[k, k], mul(h, link.damping))
        momentum = multiply(problem.inertia, list(qacc))
        rate = [as_array(x, qpos[0]) for x in solve(factorize(matrix, model.nv), momentum)]
    qvel = advance(qvel, rate, h)
    return advance(qpos, qvel, h), qvel, qacc


def runge_kutta_step(model: PlanarModel, state: State, ctrl: Arrays, solver: Solver) -> State:
    """The classical fourth-order method; every stage's solve starts from the stage before.

    One loop over the four stages, so that the dynamics are compiled once; the first stage moves by zero.
    """
    qpos, qvel, start = state
    h, number = model.timestep, qpos[0].dtype.type

    def stage(i, carry):
        velocity, acceleration, velocity_sum, acceleration_sum = carry
        # Selects rather than a table, which a Pallas kernel could not index.
        share = lax.select(i == 0, number(0.0), lax.select(i == 3, number(h), number(0.5 * h)))
        weight = lax.select((i == 0) | (i == 3), number(1 / 6), number(1 / 3))
        position = advance(qpos, velocity, share)
        velocity = advance(qvel, acceleration, share)
        acceleration, _ = forward(model, position, velocity, ctrl, acceleration, solver)
        return (
            velocity,
            acceleration,
            advance(velocity_sum, velocity, weight),
            advance(acceleration_sum, acceleration, weight),
        )

    zeros = [0.0 * x for x in qvel]
    _, qacc, velocity_sum, acceleration_sum = lax.fori_loop(0, 4, stage, (qvel, start, zeros, zeros))
    return advance(qpos, velocity_sum, h), advance(qvel, acceleration_sum, h), qacc
