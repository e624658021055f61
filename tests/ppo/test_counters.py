"""The 64-bit counter, around the places where 32 bits end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from mjxppo.ppo import counters


@pytest.mark.parametrize("start", [0, 2**31 - 5, 2**31, 2**32 - 3, 2**32, 2**40 - 1, 2**63 - 10])
@pytest.mark.parametrize("amount", [0, 1, 7, 2**31 - 1])
def test_add_counts_past_every_32_bit_limit(start, amount):
    counter = jax.jit(counters.add)(counters.make(start), jnp.int32(amount))
    assert counters.to_int(counter) == start + amount


@pytest.mark.parametrize(
    "start, target, limit, expected",
    [
        (0, 100, 32, 32),
        (90, 100, 32, 10),
        (100, 100, 32, 0),
        (120, 100, 32, 0),
        (2**32 - 2, 2**32 + 5, 32, 7),
        (2**32 - 2, 2**32 + 5, 3, 3),
        (5, 2**40, 2**31 - 1, 2**31 - 1),
        (2**33, 2**32, 32, 0),
        (2**32 + 7, 2**33 + 1, 100, 100),
    ],
)
def test_remaining_is_exact_and_limited(start, target, limit, expected):
    left = counters.remaining(counters.make(start), counters.make(target), limit)
    assert int(left) == expected and left.dtype == jnp.int32


def test_fraction_is_right_for_large_counts():
    assert float(counters.fraction(counters.make(3 * 2**33), counters.make(2**35))) == pytest.approx(0.75)
    assert float(counters.fraction(counters.make(0), counters.make(0))) == 0


@pytest.mark.parametrize("value", [-1, 2**64])
def test_values_that_do_not_fit_are_refused(value):
    with pytest.raises(OverflowError):
        counters.make(value)
