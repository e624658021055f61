"""Metrics that an update does not know, such as the mean return where no episode has ended.

A device program gives ``UNKNOWN`` for them, and the host NaN: under ``JAX_DEBUG_NANS`` a NaN of a program is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

UNKNOWN = float(np.finfo(np.float32).min)
"""Stands for a number that is not known; no metric has this value."""


def where_known(known: jax.Array, x: jax.Array) -> jax.Array:
    """``x`` where it is known, else ``UNKNOWN``."""
    return jnp.where(known, x, UNKNOWN)


def with_nan(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A program's metrics, on the host, with NaN for what is not known."""
    floats = {name: x for name, x in metrics.items() if x.dtype.kind == "f"}
    return dict(metrics) | {name: np.where(x == UNKNOWN, np.nan, x).astype(x.dtype) for name, x in floats.items()}
