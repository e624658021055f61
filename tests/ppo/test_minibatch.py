"""Minibatches cover every sample once, and do not depend on how many devices share the blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.ppo import minibatch


def test_every_sample_is_drawn_exactly_once_an_epoch():
    blocks, steps, size, count = 3, 8, 4, 16
    per_step = minibatch.slices_per_step(steps, size, count)
    assert per_step == 2
    labels = jnp.arange(blocks * steps * size).reshape(blocks, steps, size)
    slices = minibatch.to_slices(labels, per_step)
    chosen = minibatch.draw(jax.random.key(0), 0, blocks, steps * per_step, count)
    drawn = np.asarray(slices[chosen])
    assert drawn.shape == (count, blocks, size // per_step)
    np.testing.assert_array_equal(np.sort(drawn.ravel()), np.arange(labels.size))


def test_epochs_are_shuffled_differently():
    draws = [minibatch.draw(jax.random.fold_in(jax.random.key(0), i), 0, 2, 32, 4) for i in range(2)]
    assert not np.array_equal(*draws)


def test_a_minibatch_holds_the_same_samples_on_one_device_and_on_two():
    key = jax.random.key(7)
    together = np.asarray(minibatch.draw(key, 0, 4, 16, 8))
    first, second = (np.asarray(minibatch.draw(key, start, 2, 16, 8)) for start in (0, 2))
    apart = np.concatenate([first, second + 2 * 16], axis=1)
    np.testing.assert_array_equal(np.sort(together, axis=1), np.sort(apart, axis=1))


@pytest.mark.parametrize(
    "steps, size, count, per_step",
    [
        (32, 128, 16, 1),
        (32, 128, 64, 2),
        (64, 128, 32, 1),
        (10, 4, 5, 1),
        (10, 4, 8, 4),
        (10, 4, 7, None),
        (1, 4, 8, None),
    ],
)
def test_slices_are_the_largest_that_make_minibatches_equal(steps, size, count, per_step):
    assert minibatch.slices_per_step(steps, size, count) == per_step
