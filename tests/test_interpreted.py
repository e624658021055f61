"""The interpreter of traced programs computes what JAX computes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import interpreted
from jax import lax


def loops(x):
    def step(carry, row):
        return carry + 0.5 * row, (carry, row.sum())

    total, rows = lax.scan(step, jnp.zeros(3), x, reverse=True)
    doubled = lax.while_loop(lambda y: y.max() < 100, lambda y: 2 * y + x.max(), jnp.abs(total) + 1)
    return (
        rows,
        lax.cond(total.sum() > 0, lambda: doubled, lambda: -doubled),
        lax.fori_loop(0, 3, lambda i, y: y + i, total),
    )


def places(x):
    """Gathers and scatters, also out of bounds, as ``vmap`` makes them."""
    i = jnp.array([3, 0, 9, -1])
    batched = jax.vmap(lambda row, j: row[j])(x, jnp.arange(4) % 3)
    return (
        x[i],
        x.at[i].add(2.0),
        x.at[:, 1].set(7.0),
        batched,
        lax.dynamic_slice(x, (2, 1), (2, 2)),
        x.at[i, 0].multiply(3),
    )


def elementwise(x):
    which = jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x**3) + jnp.clip(x, -0.5, 0.2)
    return which % 0.3, jnp.arctan2(x, which), jnp.sign(x), jnp.floor(x), jnp.isfinite(1 / x), x.astype(jnp.int32) // 2


def shapes(x):
    products = jnp.einsum("ij,kj->ki", x, x), jax.vmap(jnp.dot, (0, 0))(x, x), x.T @ x
    return (
        products,
        jnp.concatenate([x, x[::-1]], 1),
        x.max(0),
        x.argmin(1),
        jnp.sort(x, 0),
        jnp.pad(x, 1),
        jnp.tile(x, 2),
    )


@pytest.mark.parametrize("function", [loops, places, elementwise, shapes])
def test_numpy_computes_what_jax_computes(function):
    x = np.random.default_rng(0).normal(size=(4, 3))
    with jax.enable_x64(True):
        got, expected = interpreted(function, x), function(jnp.asarray(x))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, expected)
        assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
