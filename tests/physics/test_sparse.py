"""The sparse factorisation against NumPy, on matrices of every sparsity, with constants among the entries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.physics import sparse

ORDER, WORLDS = 7, 5


def random_matrices(seed: int) -> np.ndarray:
    """Symmetric positive definite matrices [WORLDS, n, n] of one random sparsity."""
    rng = np.random.default_rng(seed)
    present = np.tril(rng.random((ORDER, ORDER)) < rng.uniform(0.1, 0.9), -1)
    lower = np.where(present, rng.normal(size=(WORLDS, ORDER, ORDER)), 0.0)
    return lower + lower.swapaxes(1, 2) + 2 * ORDER * np.eye(ORDER)


@pytest.mark.parametrize("seed", range(10))
def test_solve_and_multiply_are_numpys(seed):
    dense = random_matrices(seed)
    rhs = np.random.default_rng(100 + seed).normal(size=(WORLDS, ORDER))
    with jax.enable_x64(True):
        entries = {
            (i, j): float(dense[0, i, j]) if np.ptp(dense[:, i, j]) == 0 else jnp.asarray(dense[:, i, j])
            for i in range(ORDER)
            for j in range(i + 1)
            if dense[:, i, j].any()
        }
        columns = list(jnp.asarray(rhs).T)
        solution = np.stack(sparse.solve(sparse.factorize(entries, ORDER), columns), axis=1)
        product = np.stack(sparse.multiply(entries, columns), axis=1)
    np.testing.assert_allclose(solution, np.linalg.solve(dense, rhs[..., None])[..., 0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(product, (dense @ rhs[..., None])[..., 0], rtol=1e-12, atol=1e-13)


def test_a_kinematic_tree_has_no_fill_in():
    """Rows hold ancestors only, as entries do: 0 is the root of two branches, 1-2-3 and 4-5."""
    ancestors = {0: (), 1: (0,), 2: (0, 1), 3: (0, 1, 2), 4: (0,), 5: (0, 4)}
    entries = {(i, j) for i, above in ancestors.items() for j in (*above, i)}
    assert sparse.fill_in(entries, 6) == list(ancestors.values())
    # An entry between the tips of the branches adds one between 4, the parent of 5, and 3.
    assert sparse.fill_in(entries | {(5, 3)}, 6)[4] == (0, 3)
