"""Running moments against NumPy on all the data at once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.ppo import normalize


@pytest.mark.parametrize("offset, scale", [(0.0, 1.0), (100.0, 1.0), (-3.0, 1e-2), (0.0, 1e5)])
def test_merged_batches_have_the_moments_of_all_the_data(offset, scale):
    rng = np.random.default_rng(0)
    batches = [offset + scale * rng.normal(loc=i, size=(n, 3)) for i, n in enumerate((10, 500, 2000, 3000))]
    moments = normalize.initial_moments((3,)).replace(count=jnp.float32(0))
    for batch in batches:
        # As a rollout does: sums of what the present moments make of the data.
        x = normalize.standardize(moments, jnp.asarray(batch, jnp.float32))
        moments = normalize.merge_standardized_sums(moments, x.sum(0), (x * x).sum(0), jnp.int32(len(batch)))
    everything = np.concatenate(batches)
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


def test_decaying_moments_start_without_bias_and_then_forget():
    moments = normalize.initial_moments(())
    for _ in range(5):
        moments = normalize.decay_moments(moments, jnp.float32(7.0), jnp.float32(4.0), 0.99)
    assert float(moments.mean) == pytest.approx(7.0) and float(moments.var) == pytest.approx(4.0, rel=1e-5)
    for _ in range(2000):
        moments = normalize.decay_moments(moments, jnp.float32(-1.0), jnp.float32(9.0), 0.99)
    assert float(moments.mean) == pytest.approx(-1.0, abs=1e-3) and float(moments.var) == pytest.approx(9.0, rel=1e-3)
