"""Pytrees as one array of 32-bit words: a GPU then writes them with one kernel, instead of one for each leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
C = TypeVar("C")


def scan(step: Callable[[C, Any], tuple[C, Any]], carry: C, xs: Any, lead: int = 0) -> tuple[C, Any]:
    """``lax.scan`` that writes all outputs of a step as one array; the numbers are the same, to the bit.

    The first ``lead`` axes of a step's outputs are the same in all of them.
    """
    first = jax.tree.map(lambda x: x[0], xs)
    like = jax.eval_shape(step, carry, first)[1]

    def packed(carry: C, x: Any) -> tuple[C, Array]:
        carry, outputs = step(carry, x)
        return carry, pack(outputs, lead)

    carry, words = lax.scan(packed, carry, xs)
    return carry, unpack(words, like, lead)


def pack(tree: Any, lead: int) -> Array:
    """The leaves of a pytree, which share their first ``lead`` axes, as words [*lead, K] uint32."""
    return jnp.concatenate([_words(x).reshape(*x.shape[:lead], -1) for x in jax.tree.leaves(tree)], axis=-1)


def unpack(words: Array, like: Any, lead: int) -> Any:
    """The pytree of which ``pack`` made ``words`` [..., K]; ``like`` has its shapes and types for one such array."""
    leaves, structure = jax.tree.flatten(like)
    sizes = [math.prod(x.shape[lead:]) for x in leaves]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    front = words.shape[:-1]
    parts = [words[..., end - size : end].reshape(*front, *x.shape[lead:]) for x, size, end in zip(leaves, sizes, ends)]
    return jax.tree.unflatten(structure, [_from_words(part, x.dtype) for part, x in zip(parts, leaves)])


def _words(x: Array) -> Array:
    """The bits of an array of 32-bit numbers, or bools, as words."""
    return x.astype(jnp.uint32) if x.dtype == bool else lax.bitcast_convert_type(x, jnp.uint32)


def _from_words(words: Array, dtype: Any) -> Array:
    return words != 0 if dtype == bool else lax.bitcast_convert_type(words, dtype)
