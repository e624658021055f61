"""The estimates of scripts/gradient_study.py, which docs/algorithms.md is about."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location(
    "gradient_study", Path(__file__).resolve().parents[2] / "scripts/gradient_study.py"
)
study = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(study)


def test_both_orders_agree_with_the_gradient_of_a_smooth_function():
    theta = jnp.array([0.3, -0.2])
    found = study.estimates(lambda x: jnp.sin(x).sum(-1), theta, 0.2, 20_000, jax.random.key(0))
    # E sin(θ + σ w) = sin(θ) exp(-σ^2 / 2).
    true = np.cos(theta) * np.exp(-0.02)
    for order in study.ORDERS:
        np.testing.assert_allclose(found[order].mean, true, atol=5 * found[order].std / np.sqrt(20_000))


def test_first_order_is_zero_on_a_step_and_zeroth_order_is_not():
    sigma, theta = 0.2, 0.1
    true = np.exp(-0.5 * (theta / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma
    assert study.smoothed_slope(study.step, theta, sigma) == pytest.approx(true, rel=1e-4)
    found = study.estimates(study.step, jnp.array([theta]), sigma, 20_000, jax.random.key(0))
    assert found["first order"].mean[0] == found["first order"].std == 0.0
    assert found["zeroth order"].mean[0] == pytest.approx(true, abs=5 * found["zeroth order"].std / np.sqrt(20_000))
