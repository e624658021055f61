"""Which samples make up which minibatch.

A block of B worlds and T steps is cut into T * k units of B / k worlds at one time step, and every minibatch takes
an equal number of units, drawn without replacement, from every block. Units are contiguous in memory, which
makes drawing them cheap; and because every block contributes alike and draws by its global number, a minibatch
holds the same samples however many devices share the blocks. k is ``config.splits_per_step``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def to_units(x: Array, splits: int) -> Array:
    """[blocks, T, B, ...] -> [blocks * T * k, B / k, ...]; a view of the same memory."""
    blocks, steps, size = x.shape[:3]
    return x.reshape(blocks * steps * splits, size // splits, *x.shape[3:])


def draw(key: Array, first_block: int | Array, blocks: int, units_per_block: int, num_minibatches: int) -> Array:
    """Units of each minibatch of one epoch, as indices into ``to_units``' result.

    Args:
        key: the epoch's random key.
        first_block: global number of this device's first block.
        blocks: number of blocks on this device.
        units_per_block: T * k.
        num_minibatches: M.

    Returns:
        [M, blocks * units_per_block / M] int32.
    """

    def one(block: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, first_block + block), units_per_block)
        return (order + block * units_per_block).reshape(num_minibatches, -1)

    per_block = jax.vmap(one)(jnp.arange(blocks))
    return per_block.swapaxes(0, 1).reshape(num_minibatches, -1)
