"""Running mean and variance: of the observations, and of the returns that the critic predicts."""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array

EPSILON = 1e-8
"""Added to a variance before its square root is taken."""
OBS_CLIP = 10.0
"""Normalised observations are clipped to this many standard deviations."""
LEAST_STD = 1e-3
"""Standard deviation, in an observation's own units, below which a component fades, see ``fading``."""
OUTLIER = 100.0
"""Samples further than this many standard deviations from the mean enter moments as if they were this far away."""
_MAX_COUNT = 1e9
"""The count saturates here, so that float32 sums of counts stay meaningful in very long runs."""

_NO_COUNT = 1e-6
"""Count before the first batch: almost no weight."""
_BATCHES_FOR_UNITS = 4
"""Number of first batches that each replace the moments of the one before, and add ``_NO_COUNT`` to the count. They
only tell the units in which a sample is an outlier: one in the first batch, without units yet, does not last."""


@flax.struct.dataclass
class RunningMoments:
    """Mean and variance of all samples so far, of which outliers are bounded, see ``OUTLIER``."""

    mean: Array
    var: Array
    count: Array
    """Weight of the past, in samples, []."""


def initial_moments(shape: tuple[int, ...]) -> RunningMoments:
    """Zero mean and unit variance, with almost no weight."""
    return RunningMoments(mean=jnp.zeros(shape), var=jnp.ones(shape), count=jnp.float32(_NO_COUNT))


def merge_moments(moments: RunningMoments, mean: Array, var: Array, count: Array) -> RunningMoments:
    """Merges moments of ``count`` (0 or more) further samples (Chan, Golub and LeVeque 1979, parallel variance)."""
    total = moments.count + count
    delta = mean - moments.mean
    new_mean = moments.mean + delta * (count / total)
    spread = delta * delta * (moments.count / total) * (count / total)
    new_var = moments.var * (moments.count / total) + var * (count / total) + spread
    return RunningMoments(mean=new_mean, var=new_var, count=_count_after(moments, count))


def _count_after(moments: RunningMoments, count: Array | float) -> Array:
    """The weight of the past after ``count`` (0 or more) further samples or batches, []."""
    finds_units = moments.count < (_BATCHES_FOR_UNITS + 0.5) * _NO_COUNT
    total = jnp.where(finds_units, moments.count + _NO_COUNT, jnp.minimum(moments.count + count, _MAX_COUNT))
    return jnp.where(count > 0, total, moments.count)


def _has_units(moments: RunningMoments) -> Array:
    """Whether a batch has been seen, [] bool."""
    return moments.count > 1.5 * _NO_COUNT


def standardize(moments: RunningMoments, x: Array) -> Array:
    """``x`` in standard deviations from the mean."""
    return (x - moments.mean) * jax.lax.rsqrt(moments.var + EPSILON)


def bound(moments: RunningMoments, deviation: Array) -> Array:
    """Deviations from the mean, in standard deviations, with outliers bounded; all are kept before the first batch."""
    limit = jnp.where(_has_units(moments), OUTLIER, jnp.inf)
    return jnp.clip(deviation, -limit, limit)


def bound_sample(moments: RunningMoments, x: Array) -> Array:
    """``x`` in its own units with outliers bounded, as they enter moments.

    All are kept where samples so far were the same, as before the first reward of a sparse task.
    """
    std = jnp.sqrt(moments.var + EPSILON)
    bounded = jnp.clip(x, moments.mean - OUTLIER * std, moments.mean + OUTLIER * std)
    return jnp.where(_has_units(moments) & (moments.var > EPSILON), bounded, x)


def fading(var: Any) -> Any:
    """Factor on a component's scale ``1 / sqrt(var + EPSILON)``, elementwise, of NumPy's or JAX's arrays.

    1 from a standard deviation of ``LEAST_STD`` on. Below it the scale falls with the variance, to 1 where nothing has
    varied, as in scikit-learn's ``StandardScaler``. The policy has not learned what such a component means: divided by
    its standard deviation, any movement of it would be as large as an input can be.
    """
    return (var / LEAST_STD**2).clip(math.sqrt(EPSILON), 1.0)


def normalize_obs(moments: RunningMoments, obs: Array) -> Array:
    """Observations standardised and clipped, [..., obs_size]; components that hardly vary fade, see ``fading``."""
    scale = jax.lax.rsqrt(moments.var + EPSILON) * fading(moments.var)
    return jnp.clip((obs - moments.mean) * scale, -OBS_CLIP, OBS_CLIP)


def network_obs(moments: RunningMoments, obs: Array, normalized: bool) -> Array:
    """Observations as the networks see them, [..., obs_size]: ``normalized`` if configured, and finite."""
    seen = normalize_obs(moments, obs) if normalized else obs
    # A non-finite observation of one world must not make sums over the batch non-finite.
    return jnp.where(jnp.isfinite(seen), seen, 0)


def merge_standardized_sums(
    moments: RunningMoments, total: Array, total_of_squares: Array, count: Array
) -> RunningMoments:
    """Merges samples of which the sums of ``standardize(moments, x)`` and of its square are known.

    Summing standardised values keeps float32 precise whatever the data's mean and scale.
    """
    count = count.astype(jnp.float32)
    safe_count = jnp.maximum(count, 1)
    shift = total / safe_count
    scale_sq = jnp.maximum(total_of_squares / safe_count - shift * shift, 0)
    variance = moments.var + EPSILON
    return merge_moments(moments, moments.mean + shift * jnp.sqrt(variance), scale_sq * variance, count)


def decay_moments(moments: RunningMoments, mean: Array, var: Array, decay: float) -> RunningMoments:
    """Exponentially forgetting moments of a batch sequence; ``count`` counts batches.

    The weight of a new batch is ``1 - decay``, more in the first few batches, so that there is no bias towards the
    initial values.
    """
    weight = jnp.maximum(1 - decay, 1 / (jnp.floor(moments.count) + 1))
    delta = mean - moments.mean
    return RunningMoments(
        mean=moments.mean + weight * delta,
        var=(1 - weight) * (moments.var + weight * delta * delta) + weight * var,
        count=_count_after(moments, 1.0),
    )
