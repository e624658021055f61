"""On the real tasks, rollouts do not depend by a bit on how many host devices share the worlds."""

from __future__ import annotations

import numpy as np
import pytest

from mjxppo.config.check import make_config
from mjxppo.config.values import defaults_for, merge
from mjxppo.run import start
from mjxppo.run.arrays import named_arrays


def after_one_update(env: str, num_devices: int) -> tuple[dict[str, np.ndarray], ...]:
    """Arrays of the worlds and of the learner, and the metrics."""
    small = {"num_envs": 128, "block_size": 16, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 2}
    values = {"num_devices": num_devices, "log": {"every_updates": 1}, "ppo": small}
    config = make_config(merge(defaults_for(env), values))
    program = start.build(config)
    state, metrics = program.train_chunk(program.init(), program.budget(10**6))
    return named_arrays(state.env_state), named_arrays(state.learner), metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "num_devices"),
    [
        ("hopper", 8),
        pytest.param("hopper", 4, marks=pytest.mark.exhaustive),
        pytest.param("half_cheetah", 4, marks=pytest.mark.exhaustive),
        pytest.param("half_cheetah", 8, marks=pytest.mark.exhaustive),
    ],
)
def test_worlds_are_bit_equal_to_those_of_two_devices_and_parameters_equal_to_rounding(env, num_devices):
    worlds, learner, metrics = after_one_update(env, 2)
    other_worlds, other_learner, other_metrics = after_one_update(env, num_devices)
    for name in worlds:
        np.testing.assert_array_equal(worlds[name], other_worlds[name], err_msg=name)
    for name in learner:
        np.testing.assert_allclose(learner[name], other_learner[name], rtol=5e-3, atol=1e-4, err_msg=name)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], other_metrics[name], rtol=1e-2, atol=1e-4, err_msg=name)
