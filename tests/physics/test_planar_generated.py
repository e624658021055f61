"""The planar backend against C MuJoCo on generated models."""

import mujoco
import numpy as np
from hypothesis import HealthCheck, given, settings
from planar_generated import planar_models
from planar_models import c_step, hard_worlds, planar_step, rollout_worlds


@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(xml=planar_models())
def test_one_step_agrees_with_c_on_any_planar_model(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    worlds = hard_worlds(model, 256) + rollout_worlds(model, 64, steps=3)
    expected = c_step(model, worlds, 1)[1]
    actual = planar_step(model, worlds, 1)[1]
    error = np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))
    assert error.max() < 1e-9, (np.argmax(error), error.max())
