"""Sparse linear algebra for many small symmetric matrices at once, unrolled over the entries while tracing.

``jax.scipy.linalg.cho_factor`` on a batch becomes one LAPACK call per matrix inside an XLA:CPU custom call. It is slow
at these sizes, and inside a program for several devices it can deadlock XLA's thread pool. Here everything is an
elementwise operation on arrays [N], one for each entry that is not always zero.

The factorisation is L^T D L from the last row to the first (Featherstone 2008, section 6.5). It keeps the sparsity of
a kinematic tree's inertia: row k has entries only at k's ancestors. Contacts between two branches add entries, and
``fill_in`` finds where.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mjxppo.physics.maths import Scalar, add, is_zero, mul, sub

Matrix = dict[tuple[int, int], Scalar]
"""A symmetric matrix: the entries (i, j) with j <= i that can differ from zero."""


@dataclass(frozen=True)
class Factor:
    """H = L^T D L with unit lower triangular L, stored by rows."""

    lower: Matrix
    """L below its diagonal."""
    inverse_diagonal: list[Scalar]
    """1 / D."""
    rows: list[tuple[int, ...]]
    """The columns j < k where L can differ from zero, ascending, for each row k."""


def fill_in(entries: Collection[tuple[int, int]], size: int) -> list[tuple[int, ...]]:
    """The sparsity of L, see ``Factor.rows``, for a matrix of the order ``size`` with the given entries."""
    rows: list[set[int]] = [{j for (i, j) in entries if i == k and j < k} for k in range(size)]
    for k in reversed(range(size)):
        for i in rows[k]:
            rows[i] |= {j for j in rows[k] if j < i}
    return [tuple(sorted(row)) for row in rows]


def factorize(matrix: Mapping[tuple[int, int], Scalar], size: int) -> Factor:
    """Factorises a symmetric positive definite matrix of the order ``size``."""
    rows = fill_in(set(matrix), size)
    h = dict(matrix)
    lower: Matrix = {}
    inverse_diagonal: list[Scalar] = [0.0] * size
    for k in reversed(range(size)):
        # XLA:CPU never computes a division twice, but recomputes cheaper expressions in every consumer.
        inverse_diagonal[k] = 1.0 / h[k, k]
        for i in reversed(rows[k]):
            if is_zero(h.get((k, i), 0.0)):
                continue
            lower[k, i] = mul(h[k, i], inverse_diagonal[k])
            for j in rows[k]:
                if j <= i:
                    h[i, j] = sub(h.get((i, j), 0.0), mul(lower[k, i], h.get((k, j), 0.0)))
    return Factor(lower, inverse_diagonal, rows)


def solve(factor: Factor, rhs: Sequence[Scalar]) -> list[Scalar]:
    """H^-1 rhs."""
    x = list(rhs)
    size = len(x)
    for k in reversed(range(size)):
        for j in factor.rows[k]:
            x[j] = sub(x[j], mul(factor.lower.get((k, j), 0.0), x[k]))
    for k in range(size):
        x[k] = mul(x[k], factor.inverse_diagonal[k])
        for j in factor.rows[k]:
            x[k] = sub(x[k], mul(factor.lower.get((k, j), 0.0), x[j]))
    return x


def multiply(matrix: Mapping[tuple[int, int], Scalar], x: Sequence[Scalar]) -> list[Scalar]:
    """H x for a symmetric matrix H."""
    y: list[Scalar] = [0.0] * len(x)
    for (i, j), h in matrix.items():
        y[i] = add(y[i], mul(h, x[j]))
        if i != j:
            y[j] = add(y[j], mul(h, x[i]))
    return y
