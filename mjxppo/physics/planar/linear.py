"""Tree-sparse linear algebra, unrolled while tracing: M x, and the L^T D L factorisation and solve.

Eliminating the leaves first keeps the sparsity of a kinematic tree (Featherstone 2008, section 6.5): row k has
entries only at k's ancestors. Contacts between two branches add entries; ``fill_in`` finds where.
"""

from __future__ import annotations

from dataclasses import dataclass

from mjxppo.physics.planar.algebra import add, is_zero, mul, sub
from mjxppo.physics.planar.inertia import Matrix
from mjxppo.physics.planar.model import Scalar


@dataclass(frozen=True)
class Factor:
    """H = L^T D L with unit lower triangular L, stored by rows."""

    lower: Matrix
    inverse_diagonal: list[Scalar]
    rows: list[tuple[int, ...]]


def fill_in(entries: set[tuple[int, int]], size: int) -> list[tuple[int, ...]]:
    """For each row k, in increasing order, the columns j < k where L can differ from zero."""
    rows: list[set[int]] = [{j for (i, j) in entries if i == k and j < k} for k in range(size)]
    for k in reversed(range(size)):
        for i in rows[k]:
            rows[i] |= {j for j in rows[k] if j < i}
    return [tuple(sorted(row)) for row in rows]


def factorize(matrix: Matrix, size: int) -> Factor:
    """Factorises a symmetric positive definite matrix."""
    rows = fill_in(set(matrix), size)
    h = dict(matrix)
    lower: Matrix = {}
    inverse_diagonal: list[Scalar] = [0.0] * size
    for k in reversed(range(size)):
        inverse_diagonal[k] = 1.0 / h[k, k]
        for i in reversed(rows[k]):
            if is_zero(h.get((k, i), 0.0)):
                continue
            lower[k, i] = mul(h[k, i], inverse_diagonal[k])
            for j in rows[k]:
                if j <= i:
                    h[i, j] = sub(h.get((i, j), 0.0), mul(lower[k, i], h.get((k, j), 0.0)))
    return Factor(lower, inverse_diagonal, rows)


def solve(factor: Factor, rhs: list[Scalar]) -> list[Scalar]:
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


def multiply(matrix: Matrix, x: list[Scalar]) -> list[Scalar]:
    """H x for a symmetric matrix."""
    y: list[Scalar] = [0.0] * len(x)
    for (i, j), h in matrix.items():
        y[i] = add(y[i], mul(h, x[j]))
        if i != j:
            y[j] = add(y[j], mul(h, x[i]))
    return y
