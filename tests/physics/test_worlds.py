"""Functions of worlds in blocks, and under ``vmap``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.physics.worlds import fold_vmap, map_blocks


@pytest.mark.parametrize("num_worlds", [0, 1, 3, 4, 5, 8])
def test_map_blocks_is_the_function_of_all_worlds(num_worlds):
    sizes = []

    def function(x, tree):
        sizes.append(x.shape[0])
        return {"sum": x.sum(1) + tree["y"], "x": x}

    x = jnp.arange(3.0 * num_worlds).reshape(num_worlds, 3)
    out = jax.jit(lambda x: map_blocks(function, (x, {"y": x[:, 0]}), 4))(x)
    assert set(sizes) == {4}
    np.testing.assert_array_equal(out["x"], x)
    np.testing.assert_array_equal(out["sum"], x.sum(1) + x[:, 0])


def test_fold_vmap_calls_the_function_with_all_worlds_at_once():
    sizes = []

    def function(x, y):
        sizes.append(x.shape)
        return x + y, y

    x, y = jnp.arange(24.0).reshape(2, 3, 4), jnp.arange(12.0).reshape(3, 4)
    total, same = jax.vmap(jax.vmap(fold_vmap(function)), in_axes=(0, None))(x[..., None], y[..., None])
    assert (24, 1) in sizes
    np.testing.assert_array_equal(total[..., 0], x + y)
    np.testing.assert_array_equal(same[..., 0], jnp.broadcast_to(y, x.shape))


def test_fold_vmap_keeps_the_worlds_of_each_number_together():
    def function(x, numbers):
        # Three numbers of each world: the first of all worlds, then the second.
        return x * numbers.reshape(3, -1).sum(0)

    x, numbers = jnp.arange(24.0).reshape(2, 3, 4), jnp.arange(72.0).reshape(2, 3, 12) ** 2
    folded = jax.vmap(jax.vmap(fold_vmap(function, num_worlds=4)))(x, numbers)
    np.testing.assert_array_equal(folded, jax.vmap(jax.vmap(function))(x, numbers))
