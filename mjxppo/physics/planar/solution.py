"""The solver as a function that JAX can differentiate and batch.

Forward, it is ``solver.minimize``. Its derivative does not go through the iterations: at the solution the cost's
gradient g(a, problem) is zero, so da = -H^-1 (dg/dproblem) dproblem with the Hessian H there (the implicit function
theorem). The rows' active set is held fixed, which is the derivative wherever there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.physics.planar.algebra import array, separate
from mjxppo.physics.planar.linear import factorize, solve
from mjxppo.physics.planar.model import PlanarModel, Scalar
from mjxppo.physics.planar.problem import Arrays, Problem, gradient_and_hessian, residuals
from mjxppo.physics.planar.solver import minimize


def constrained_acceleration(model: PlanarModel, problem: Problem, start: Arrays, early_exit: bool = True) -> Arrays:
    """qacc, by Newton's method from ``start``.

    Args:
        model: the tree.
        problem: the problem; its leaves are constants or arrays [N].
        start: nv arrays [N].
        early_exit: see ``minimize``.
    """
    arrays, rebuild = separate(problem)

    def run(arrays: Arrays, start: Arrays) -> Arrays:
        return minimize(model, rebuild(arrays), start, early_exit)

    batched = fold_batches(run)

    @jax.custom_jvp
    def solution(arrays: Arrays, start: Arrays) -> Arrays:
        return batched(arrays, start)

    @solution.defjvp
    def derivative(primals: tuple[Arrays, Arrays], tangents: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
        arrays, start = primals
        qacc = solution(arrays, start)

        def gradient(arrays: Arrays) -> list[Scalar]:
            problem = rebuild(arrays)
            return gradient_and_hessian(model, problem, qacc, residuals(model, problem, qacc))[0]

        _, change = jax.jvp(gradient, (arrays,), (tangents[0],))
        problem = rebuild(arrays)
        _, hessian = gradient_and_hessian(model, problem, qacc, residuals(model, problem, qacc))
        return qacc, [array(-x, qacc[0]) for x in solve(factorize(hessian, model.nv), change)]

    return solution(arrays, start)


def fold_batches(run: Callable[..., Any]) -> Callable[..., Any]:
    """Makes ``vmap`` of a function over worlds a call with more worlds.

    JAX's own batching would turn the solver's branches into selects, so that every step ran the line search.

    Args:
        run: takes and returns pytrees of arrays [N, ...], and treats every world alike.
    """
    folded = jax.custom_batching.custom_vmap(run)

    @folded.def_vmap
    def rule(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[Any, Any]:
        def fold(x: jax.Array, batched: bool) -> jax.Array:
            x = x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
            return x.reshape(-1, *x.shape[2:])

        out = folded(*jax.tree.map(fold, arguments, tuple(in_batched)))
        unfolded = jax.tree.map(lambda x: x.reshape(axis_size, -1, *x.shape[1:]), out)
        return unfolded, jax.tree.map(lambda _: True, out)

    return folded
