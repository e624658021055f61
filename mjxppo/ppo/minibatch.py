"""Choice of the samples of each minibatch.

A block is ``ppo.block_size`` = B worlds. Its T steps are cut into T * k slices, each of B / k neighbouring worlds at
one time step, and every minibatch takes the same number of slices, drawn without replacement, from every block. A
slice is contiguous in memory, which makes drawing it cheap. Blocks draw by their global number, so that a minibatch
holds the same samples on any number of devices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def slices_per_step(rollout_length: int, block_size: int, num_minibatches: int) -> int | None:
    """k, the number of slices that the B worlds of a block make at each of T steps.

    It is the smallest k for which ``num_minibatches`` divides T * k, and k divides B; None if there is none.
    """
    for k in range(1, block_size + 1):
        if block_size % k == 0 and (rollout_length * k) % num_minibatches == 0:
            return k
    return None


def to_slices(x: Array, per_step: int) -> Array:
    """[blocks, T, B, ...] -> [blocks * T * k, B / k, ...], with k = ``per_step``; a view of the same memory."""
    blocks, steps, size = x.shape[:3]
    return x.reshape(blocks * steps * per_step, size // per_step, *x.shape[3:])


def draw(key: Array, first_block: int | Array, blocks: int, slices_per_block: int, num_minibatches: int) -> Array:
    """Slices of each minibatch of one epoch, as indices into the result of ``to_slices``.

    ``key`` is the epoch's, ``first_block`` the global number of this device's first block, ``slices_per_block`` is T *
    k, and ``num_minibatches`` M. Returns [M, blocks * slices_per_block / M] int32.
    """

    def one(block: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, first_block + block), slices_per_block)
        return (order + block * slices_per_block).reshape(num_minibatches, -1)

    per_block = jax.vmap(one)(jnp.arange(blocks))
    return per_block.swapaxes(0, 1).reshape(num_minibatches, -1)
