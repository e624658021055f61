"""Packing: every type comes back to the bit, and a packed loop is the loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.ppo import packing

N = 5


def plain(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def assert_same(first, second):
    def same(a, b):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert plain(a).tobytes() == plain(b).tobytes()

    jax.tree.map(same, first, second)


def test_every_type_comes_back_to_the_bit():
    special = jnp.array([np.nan, np.inf, -0.0, 1e-45, 1.0], jnp.float32)
    tree = {
        "special": special,
        "matrix": jnp.arange(N * 6, dtype=jnp.float32).reshape(N, 2, 3),
        "negative": -jnp.arange(N),
        "flags": jnp.arange(N) < 2,
        "keys": jax.random.split(jax.random.key(0), N),
        "half": special.astype(jnp.bfloat16),
        "bytes": jnp.full((N, 3), 255, jnp.uint8),
        "nothing": None,
    }
    words = packing.pack(tree, lead=1)
    assert words.dtype == jnp.uint32 and words.shape == (N, 1 + 6 + 1 + 1 + 2 + 1 + 3)
    assert_same(packing.unpack(words, tree, lead=1), tree)
    several = packing.unpack(jnp.stack([words, words]), tree, lead=1)
    assert several["matrix"].shape == (2, N, 2, 3) and several["keys"].shape == (2, N)


def test_numbers_of_64_bits_come_back_to_the_bit():
    with jax.enable_x64(True):
        tree = {"x": jnp.full((N, 2), 1 / 3), "n": jnp.arange(N) - 2**40}
        assert_same(packing.unpack(packing.pack(tree, lead=1), tree, lead=1), tree)


def test_a_packed_loop_is_the_loop():
    def step(carry, x):
        total, key, count = carry
        noise = jax.random.normal(key, (N,))
        carry = total + noise * x, jax.random.fold_in(key, 1), count + 1
        return carry, {"total": total, "high": total > 0, "both": jnp.stack([noise, total])}

    carry, xs = (jnp.zeros(N), jax.random.key(3), jnp.int32(0)), jnp.linspace(0, 1, 7)
    expected, got = (jax.jit(lambda scan=scan: scan(step, carry, xs))() for scan in (jax.lax.scan, packing.scan))
    assert_same(expected, got)


def test_a_packed_loop_may_leave_nothing_behind():
    total, outputs = packing.scan(lambda total, x: (total + x, None), jnp.zeros(N), jnp.arange(7.0))
    assert outputs is None
    assert_same(total, jnp.full(N, 21.0))
