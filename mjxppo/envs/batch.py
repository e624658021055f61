"""Functions on batches of worlds: pytrees whose arrays lead with N, the number of worlds."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Array = jax.Array
T = TypeVar("T")

MAX_VALUE = 1e10
"""Worlds in which a number is larger are broken, as they are for C MuJoCo (mjMAXVAL)."""


def split_each(keys: Array) -> tuple[Array, Array]:
    """Two new random keys for each key [N]: [N] and [N]."""
    # Each by itself, the bits of ``jax.random.split``: a GPU would write a pair, and take it apart in a second kernel.
    first, second = (jax.vmap(partial(jax.random.fold_in, data=i))(keys) for i in range(2))
    return first, second


def select(mask: Array, new: T, old: T) -> T:
    """The worlds of ``new`` where ``mask`` [N] holds, else those of ``old``."""

    def pick(new: Array, old: Array) -> Array:
        if new is old:  # an array that is the same in both is neither copied nor carried through a branch
            return old
        return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(pick, new, old)


def is_sound(x: Array) -> Array:
    """Whether a number is one that a simulation can be trusted with, elementwise: not NaN, at most ``MAX_VALUE``."""
    return jnp.abs(x) <= MAX_VALUE


def is_bounded(obs: Array) -> Array:
    """Whether a foreign environment's observation, [N, obs_size], holds a number that was bounded, [N] float32."""
    return (jnp.abs(obs) >= MAX_VALUE).any(-1).astype(jnp.float32)


def all_sound(tree: Any) -> Array:
    """Whether every floating-point number of a world is sound, [N] bool."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    sound = jnp.array(True)
    for leaf in leaves:
        sound = sound & is_sound(leaf).reshape(leaf.shape[0], -1).all(-1)
    return sound
