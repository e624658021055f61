"""Random numbers for every world and step: a Threefry hash of the episode's key, the time and a counter.

This is cheaper than ``jax.random``, which would derive a key for each world and purpose, hash once for each number, and
invert the error function. Here one hash gives two numbers, no key is derived, and the worlds are the last axis, along
which vector units work.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from mjxppo.physics.maths import sincos

Array = jax.Array

NOISE, EVENTS = 1 << 16, 2 << 16
"""First counter of each purpose. ``jax.random.split`` uses smaller ones, so that the key may be split as well."""


def random_words(keys: Array, time: Array, purpose: int, pairs: int) -> Array:
    """Random words, [2 pairs, N] uint32; each depends on its world's key, the time, the purpose and ``pairs`` alone.

    ``keys`` [N] are typed; ``time`` [N] must differ between all calls with these keys and this purpose (NOISE or
    EVENTS); ``pairs`` is the number of hashes, each of which gives two words.
    """
    shape = (pairs, keys.shape[0])
    first, second = (jnp.broadcast_to(word, shape).ravel() for word in jax.random.key_data(keys)[:, :2].T)
    times = jnp.broadcast_to(time.astype(jnp.uint32), shape)
    numbers = jnp.broadcast_to((purpose + jnp.arange(pairs, dtype=jnp.uint32))[:, None], shape)
    return threefry_2x32((first, second), jnp.concatenate([times, numbers]).ravel()).reshape(2 * pairs, -1)


def uniform_numbers(words: Array) -> Array:
    """Numbers in [0, 1) from random words, float32, multiples of 2^-24."""
    return (words >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def normal_numbers(words: Array) -> Array:
    """Numbers of the standard normal distribution from random words [2 n, ...], [2 n, ...] float32.

    By the Box-Muller transform; magnitudes reach 5.8, because uniform numbers are multiples of 2^-24.
    """
    radius, angle = jnp.split(uniform_numbers(words), 2)
    radius = jnp.sqrt(-2 * jnp.log(1 - radius))
    sin, cos = sincos(2 * math.pi * angle)
    return jnp.concatenate([radius * cos, radius * sin])
