"""A 64-bit counter out of two 32-bit words, because JAX has no 64-bit integers by default."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array


@flax.struct.dataclass
class Counter:
    """A count below 2^64."""

    high: Array
    """Upper 32 bits, [] uint32."""
    low: Array
    """Lower 32 bits, [] uint32."""


def make(value: int) -> Counter:
    """The counter that stands at ``value``; raises OverflowError outside [0, 2^64)."""
    if not 0 <= value < 2**64:
        raise OverflowError(f"a counter holds 0 to 2^64 - 1, not {value}")
    return Counter(high=jnp.uint32(value >> 32), low=jnp.uint32(value & 0xFFFFFFFF))


def to_int(counter: Counter) -> int:
    """The count as a Python integer (waits for the device)."""
    return (int(counter.high) << 32) | int(counter.low)


def add(counter: Counter, amount: Array) -> Counter:
    """The counter after ``amount`` (a non-negative int32 scalar) more."""
    low = counter.low + amount.astype(jnp.uint32)
    carry = (low < counter.low).astype(jnp.uint32)
    return Counter(high=counter.high + carry, low=low)


def remaining(counter: Counter, target: Counter, limit: int) -> Array:
    """``min(target - counter, limit)`` as an int32 scalar, 0 where the target is reached; ``limit`` < 2^31."""
    borrow = (target.low < counter.low).astype(jnp.uint32)
    reached = (counter.high > target.high) | ((counter.high == target.high) & (counter.low >= target.low))
    high = target.high - counter.high - borrow
    low = target.low - counter.low
    clipped = jnp.where((high > 0) | (low > jnp.uint32(limit)), jnp.uint32(limit), low)
    return jnp.where(reached, 0, clipped.astype(jnp.int32))


def fraction(counter: Counter, target: Counter) -> Array:
    """``counter / target`` as float32, for schedules; 0 where the target is 0."""
    return _to_float(counter) / jnp.maximum(_to_float(target), 1)


def _to_float(counter: Counter) -> Array:
    return counter.high.astype(jnp.float32) * jnp.float32(2**32) + counter.low.astype(jnp.float32)
