"""Worlds a part at a time, and ``vmap`` over functions of worlds.

A pytree of worlds has arrays that lead with N, the number of worlds. A *block* is a part of the worlds that is computed
at once: on a CPU few enough that the arrays stay in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap


def map_blocks(function: Callable[..., Any], worlds: tuple[Any, ...], block_size: int) -> Any:
    """``function(*worlds)`` for ``block_size`` worlds at a time, in one loop.

    The program of a block is the same for every N. It is a loop also where N is ``block_size``. Where ``block_size``
    does not divide N, copies of the last world (zeros if N is 0) complete the last block, and their results are
    dropped.
    """
    num_worlds = jax.tree.leaves(worlds)[0].shape[0]
    missing = max(1, -(-num_worlds // block_size)) * block_size - num_worlds

    def filled(x: jax.Array) -> jax.Array:
        if missing:
            width = ((0, missing), *((0, 0),) * (x.ndim - 1))
            x = jnp.pad(x, width, mode="edge" if num_worlds else "constant")
        return x

    blocks = jax.tree.map(lambda x: to_blocks(filled(x), block_size), worlds)
    results = lax.map(lambda block: function(*block), blocks)
    return jax.tree.map(lambda x: from_blocks(x)[:num_worlds], results)


def to_blocks(worlds: Any, block_size: int) -> Any:
    """[N, ...] -> [N / block_size, block_size, ...]; ``block_size`` divides N."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // block_size, block_size, *x.shape[1:]), worlds)


def from_blocks(blocks: Any) -> Any:
    """[blocks, block_size, ...] -> [blocks * block_size, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), blocks)


def fold_vmap(function: Callable[..., Any], num_worlds: int | None = None) -> Callable[..., Any]:
    """``function`` on pytrees of arrays of N worlds, all alike, with a ``vmap`` that is one call with more worlds.

    The arrays are [N, ...]; with ``num_worlds``, which is N, they are [k * N] with any k.
    JAX's own batching would turn the branches of a solver into selects, so that every step ran the line search; and it
    cannot batch a library that is called from JAX.
    """
    folded = custom_vmap(function)

    @folded.def_vmap
    def rule(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[Any, Any]:
        def fold(x: jax.Array, batched: bool) -> jax.Array:
            x = x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
            if num_worlds is None:  # no -1: there may be no numbers, as in the controls of a robot without actuators
                return x.reshape(axis_size * x.shape[1], *x.shape[2:])
            return x.reshape(axis_size, -1, num_worlds).swapaxes(0, 1).reshape(-1)

        def unfold(x: jax.Array) -> jax.Array:
            if num_worlds is None:
                return x.reshape(axis_size, x.shape[0] // axis_size, *x.shape[1:])
            return x.reshape(-1, axis_size, num_worlds).swapaxes(0, 1).reshape(axis_size, -1)

        out = folded(*jax.tree.map(fold, arguments, tuple(in_batched)))
        return jax.tree.map(unfold, out), jax.tree.map(lambda _: True, out)

    return folded
