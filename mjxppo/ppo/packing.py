"""Loops on a GPU: what a step hands on, and what it leaves, are one array each.

XLA writes and copies each array of a loop with a kernel of its own. For a state and results of many small arrays,
launching those takes longer than their work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
C = TypeVar("C")


def scan(step: Callable[[C, Any], tuple[C, Any]], carry: C, xs: Any, lead: int = 0) -> tuple[C, Any]:
    """``lax.scan``, with the carry as one array and the outputs of all steps as another; no bit is lost in them.

    The first ``lead`` axes are the same in all arrays of the carry, and in all outputs of one step.
    """
    first = jax.tree.map(lambda x: x[0], xs)
    like, outputs_like = jax.eval_shape(step, carry, first)

    def packed(words: Array, x: Any) -> tuple[Array, Array]:
        carry, outputs = step(unpack(words, like, lead), x)
        return pack(carry, lead), pack(outputs, lead)

    words, outputs = lax.scan(packed, pack(carry, lead), xs)
    return unpack(words, like, lead), unpack(outputs, outputs_like, lead)


def pack(tree: Any, lead: int) -> Array:
    """The leaves of a pytree, which share their first ``lead`` axes, as words [*lead, K] uint32."""
    words = [_to_words(x) for x in jax.tree.leaves(tree)]
    # Without outputs there is an empty array: a scan needs one.
    return jnp.concatenate([x.reshape(*x.shape[:lead], -1) for x in words], axis=-1) if words else jnp.zeros(0)


def unpack(words: Array, like: Any, lead: int) -> Any:
    """The pytree from ``pack``'s words, which may have further axes in front, [..., *lead, K].

    ``like`` has the shapes and types of the pytree that was packed.
    """
    leaves, structure = jax.tree.flatten(like)
    shapes = [jax.eval_shape(_to_words, x).shape[lead:] for x in leaves]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(words, ends[:-1], axis=-1) if leaves else []
    parts = [part.reshape(*words.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)]
    return jax.tree.unflatten(structure, [_from_words(part, x) for part, x in zip(parts, leaves, strict=True)])


def _to_words(x: Array) -> Array:
    """The bits of numbers, bools or random keys; a key, and a number of 64 bits, have an axis of words at the end."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(x)
    bits = x if x.dtype == bool else lax.bitcast_convert_type(x, f"uint{8 * min(x.dtype.itemsize, 4)}")
    return bits.astype(jnp.uint32)


def _from_words(words: Array, like: Array) -> Array:
    """The inverse of ``_to_words``; ``like`` has the type."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(words)
    if like.dtype == bool:
        return words != 0
    return lax.bitcast_convert_type(words.astype(f"uint{8 * min(like.dtype.itemsize, 4)}"), like.dtype)
