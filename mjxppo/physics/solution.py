"""The solver as a function that JAX can differentiate and batch.

Forward, it is ``solver.minimize``. Its derivative does not go through the iterations: at the solution the cost's
gradient g(a, problem) is zero, so da = -H^-1 (dg/dproblem) dproblem with the Hessian H there (the implicit function
theorem). The rows' active set is held fixed, which is the derivative wherever there is one.
"""

from __future__ import annotations

import jax

from mjxppo.physics.maths import Scalar, as_array, separate_arrays
from mjxppo.physics.problem import Arrays, Model, Problem
from mjxppo.physics.solver import minimize
from mjxppo.physics.sparse import factorize, solve
from mjxppo.physics.worlds import fold_vmap


def constrained_acceleration(model: Model, problem: Problem, start: Arrays, early_exit: bool = True) -> Arrays:
    """The qacc by Newton's method, nv arrays [N], as is ``start``; for ``early_exit`` see ``minimize``.

    The problem's leaves are constants or arrays [k * N] with any k.
    """
    arrays, rebuild = separate_arrays(problem)

    def solve_worlds(arrays: Arrays, start: Arrays) -> Arrays:
        return minimize(model, rebuild(arrays), start, early_exit)

    batched = fold_vmap(solve_worlds, start[0].size)

    @jax.custom_jvp
    def solution(arrays: Arrays, start: Arrays) -> Arrays:
        return batched(arrays, start)

    @solution.defjvp
    def derivative(primals: tuple[Arrays, Arrays], tangents: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
        arrays, start = primals
        qacc = solution(arrays, start)

        def gradient(arrays: Arrays) -> list[Scalar]:
            problem = rebuild(arrays)
            return problem.gradient_and_hessian(model, qacc, problem.residuals(model, qacc))[0]

        _, change = jax.jvp(gradient, (arrays,), (tangents[0],))
        problem = rebuild(arrays)
        _, hessian = problem.gradient_and_hessian(model, qacc, problem.residuals(model, qacc))
        return qacc, [as_array(-x, qacc[0]) for x in solve(factorize(hessian, model.nv), change)]

    return solution(arrays, start)
