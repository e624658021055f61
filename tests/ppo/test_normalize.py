"""Running moments against NumPy on all the data at once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.ppo import normalize


def merged(moments, batch):
    """The moments after a batch [samples, ...], as a rollout merges it."""
    x = normalize.bound(moments, normalize.standardize(moments, jnp.asarray(batch, jnp.float32)))
    return normalize.merge_standardized_sums(moments, x.sum(0), (x * x).sum(0), jnp.int32(len(batch)))


@pytest.mark.parametrize("offset, scale", [(0.0, 1.0), (100.0, 1.0), (-3.0, 1e-2), (0.0, 1e5)])
def test_merged_batches_have_the_moments_of_all_the_data_but_the_first_batches(offset, scale):
    rng = np.random.default_rng(0)
    batches = [offset + scale * rng.normal(loc=i, size=(n, 3)) for i, n in enumerate((10, 9, 8, 7, 500, 2000, 3000))]
    moments = normalize.initial_moments((3,))
    for batch in batches:
        moments = merged(moments, batch)
    everything = np.concatenate(batches[4:])
    tolerance = 2e-4 * scale + 1e-6 * abs(offset)
    np.testing.assert_allclose(moments.mean, everything.mean(0), atol=tolerance)
    np.testing.assert_allclose(np.sqrt(moments.var), everything.std(0), rtol=2e-3, atol=tolerance)
    assert float(moments.count) == len(everything)


def test_an_empty_batch_changes_nothing():
    moments = normalize.initial_moments((2,)).replace(mean=jnp.array([1.0, 2.0]), count=jnp.float32(50))
    merged = normalize.merge_standardized_sums(moments, jnp.zeros(2), jnp.zeros(2), jnp.int32(0))
    np.testing.assert_array_equal(merged.mean, moments.mean)
    np.testing.assert_array_equal(merged.var, moments.var)
    assert float(merged.count) == 50


def test_normalised_observations_are_standardised_and_clipped():
    moments = normalize.RunningMoments(jnp.array([5.0, 0.0]), jnp.array([4.0, 1.0]), jnp.float32(10))
    np.testing.assert_allclose(normalize.normalize_obs(moments, jnp.array([9.0, -100.0])), [2.0, -10.0], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.3, 1000.0])
@pytest.mark.parametrize("jitter", [0.0, 1e-6])
def test_a_constant_is_no_lever(value, jitter):
    rng = np.random.default_rng(4)
    moments = normalize.initial_moments((1,))
    for _ in range(50):
        moments = merged(moments, value + jitter * rng.normal(size=(1000, 1)))
        if float(moments.count) > 1:  # the first batch, without units yet, has a variance of float32's rounding
            moved = normalize.normalize_obs(moments, jnp.array([[value], [value + 1e-3]], jnp.float32))
            assert abs(moved[1, 0] - moved[0, 0]) < 0.05


@pytest.mark.parametrize("std", [2e-3, 0.08, 1e4])
def test_what_varies_is_divided_by_its_standard_deviation(std):
    moments = normalize.RunningMoments(jnp.zeros(1), jnp.array([std**2], jnp.float32), jnp.float32(1e6))
    x = jnp.array([[3 * std]], jnp.float32)
    np.testing.assert_array_equal(normalize.normalize_obs(moments, x), normalize.standardize(moments, x))


def test_the_scale_falls_without_a_jump_towards_a_constant():
    var = np.logspace(-20, 2, 2000).astype("f")
    for numbers in (var, jnp.asarray(var)):
        scale = np.asarray(normalize.fading(numbers)) / np.sqrt(var + normalize.EPSILON)
        assert scale[0] == pytest.approx(1.0) and scale.max() < 1001
        # It never changes by a larger factor than the variance does.
        assert np.abs(np.diff(np.log(scale))).max() <= 1.001 * np.diff(np.log(var)).max()


def test_decaying_moments_start_without_bias_and_then_forget():
    moments = normalize.initial_moments(())
    for _ in range(5):
        moments = normalize.decay_moments(moments, jnp.float32(7.0), jnp.float32(4.0), 0.99)
    assert float(moments.mean) == pytest.approx(7.0) and float(moments.var) == pytest.approx(4.0, rel=1e-5)
    for _ in range(2000):
        moments = normalize.decay_moments(moments, jnp.float32(-1.0), jnp.float32(9.0), 0.99)
    assert float(moments.mean) == pytest.approx(-1.0, abs=1e-3) and float(moments.var) == pytest.approx(9.0, rel=1e-3)


@pytest.mark.parametrize("outlier", [1e6, -9e9])
@pytest.mark.parametrize("when", [0, 1, 50])
def test_one_broken_observation_is_soon_forgotten(when, outlier):
    rng = np.random.default_rng(1)
    moments = normalize.initial_moments((2,))
    for i in range(100):
        batch = rng.normal(loc=3.0, scale=0.1, size=(1000, 2))
        if i == when:
            batch[17, 0] = outlier
        moments = merged(moments, batch)
    # A sample of 100 deviations among 100 000: its square adds a tenth.
    np.testing.assert_allclose(np.sqrt(moments.var), 0.1, rtol=0.06)
    np.testing.assert_allclose(moments.mean, 3.0, atol=0.003)


def test_an_input_that_wakes_up_late_is_soon_normalised():
    moments = normalize.initial_moments((1,))
    for _ in range(200):
        moments = merged(moments, np.zeros((1000, 1)))
    rng = np.random.default_rng(2)
    for _ in range(20):
        moments = merged(moments, rng.normal(size=(1000, 1)))
    assert float(jnp.sqrt(moments.var)[0]) > 0.1


def test_one_broken_return_does_not_set_the_critics_units():
    moments = normalize.initial_moments(())
    targets = np.random.default_rng(3).normal(50.0, 5.0, size=(40, 500)).astype("f")
    targets[0, 3], targets[20, 7] = 1e9, -1e9
    for batch in targets:
        bounded = np.asarray(normalize.bound_sample(moments, jnp.asarray(batch)))
        moments = normalize.decay_moments(moments, bounded.mean(), bounded.var(), 0.99)
    assert float(moments.mean) == pytest.approx(50.0, abs=0.5)
    assert float(jnp.sqrt(moments.var)) == pytest.approx(5.0, rel=0.4)


def test_the_first_reward_of_a_sparse_task_is_no_outlier():
    moments = normalize.initial_moments(())
    for _ in range(200):
        moments = normalize.decay_moments(moments, jnp.float32(0), jnp.float32(0), 0.99)
    assert float(normalize.bound_sample(moments, jnp.float32(1.0))) == 1.0
