"""Symmetric linear algebra for many small matrices at once, batch last, unrolled over the entries in Python.

``jax.scipy.linalg.cho_factor`` on a batch becomes one LAPACK call per matrix inside an XLA:CPU custom call. It is
slow at these sizes, and inside a multi-device program it can deadlock XLA's thread pool. Here everything is an
elementwise operation on arrays [N], one for each matrix entry that is not always zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Entries = dict[tuple[int, int], Array]
"""Lower triangle (row >= column) of N symmetric matrices: the entries that can be nonzero, each [N]."""


Fence = Callable[[Array], Array]


class Factor(NamedTuple):
    """H = L^T D L with L unit lower triangular, as MuJoCo factors its inertia: no fill-in for a kinematic tree."""

    lower: Entries
    """L below its diagonal."""
    inverse_pivots: list[Array]
    """1 / D, nv arrays [N]."""


def ldl_factor(h: Entries, n: int) -> Factor:
    """Factors N symmetric positive definite matrices, last row first (Featherstone's LTDL).

    Args:
        h: entries of the lower triangle.
        n: the matrices' order.
    """
    h = dict(h)
    lower: Entries = {}
    inverse_pivots: list[Array] = [h[k, k] for k in range(n)]
    for k in reversed(range(n)):
        # The division also tells XLA:CPU to compute a pivot once; it recomputes what is cheap in every consumer.
        inverse_pivots[k] = 1 / h[k, k]
        columns = [j for j in range(k) if (k, j) in h]
        for i in columns:
            lower[k, i] = h[k, i] * inverse_pivots[k]
        for i in columns:
            for j in columns:
                if j <= i:
                    update = lower[k, i] * h[k, j]
                    h[i, j] = h[i, j] - update if (i, j) in h else -update
    return Factor(lower, inverse_pivots)


def ldl_solve(factor: Factor, b: Sequence[Array]) -> list[Array]:
    """Solves H x = b, b and x given as nv arrays [N]."""
    x = list(b)
    n = len(x)
    for k in reversed(range(n)):
        for j in range(k):
            if (k, j) in factor.lower:
                x[j] = x[j] - factor.lower[k, j] * x[k]
    x = [value * inverse for value, inverse in zip(x, factor.inverse_pivots, strict=True)]
    for k in range(n):
        for j in range(k):
            if (k, j) in factor.lower:
                x[k] = x[k] - factor.lower[k, j] * x[j]
    return x


def multiply(h: Entries, v: Sequence[Array]) -> list[Array]:
    """H v as nv arrays [N]."""
    terms: list[list[Array]] = [[] for _ in v]
    for (i, j), value in h.items():
        terms[i].append(value * v[j])
        if i != j:
            terms[j].append(value * v[i])
    return [total(t) for t in terms]


def total(terms: Iterable[Array]) -> Array:
    """The sum of at least one array, in order: one expression, which XLA fuses into one loop."""
    iterator = iter(terms)
    result = next(iterator)
    for term in iterator:
        result = result + term
    return result


def make_fence(like: Array) -> Fence:
    """An identity that keeps XLA:CPU from recomputing its argument in every consumer.

    XLA:CPU fuses an elementwise producer into each of its consumers, which for the deep expressions here multiplies
    the work; it never duplicates a division. So the fence divides by one, a one that is computed at run time lest it
    be simplified away. Exact, but for worlds in which ``like`` [N] is NaN or -inf (they are lost anyway).
    """

    def fence(x: Array) -> Array:
        return x / jnp.where(like > -jnp.inf, jnp.ones((), x.dtype), 2)

    return fence
