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


def constrained_acceleration(model: PlanarModel, problem: Problem, start: Arrays) -> Arrays:
    """qacc, by Newton's method from ``start``.

    Args:
        model: the tree.
        problem: the problem; its leaves are constants or arrays [N].
        start: nv arrays [N].
    """
    arrays, rebuild = separate(problem)

    def run(arrays: Arrays, start: Arrays) -> Arrays:
        return minimize(model, rebuild(arrays), start)

    batched = _fold_batches(run)

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


def _fold_batches(run: Callable[[Arrays, Arrays], Arrays]) -> Callable[[Arrays, Arrays], Arrays]:
    """Makes ``vmap`` of an elementwise function a call on longer arrays.

    JAX's own batching would turn the solver's branches into selects, so that every step ran the line search.
    """
    folded = jax.custom_batching.custom_vmap(run)

    @folded.def_vmap
    def rule(axis_size: int, in_batched: Any, arrays: Arrays, start: Arrays) -> tuple[Arrays, list[bool]]:
        def fold(x: jax.Array, batched: bool) -> jax.Array:
            x = x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
            return x.reshape(-1)

        out = folded(*jax.tree.map(fold, (arrays, start), tuple(in_batched)))
        return [x.reshape(axis_size, -1) for x in out], [True] * len(out)

    return folded
