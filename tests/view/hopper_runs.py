"""Runs of Hopper that nobody trained: checkpoints of policies that always take the same action."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mjxppo.config.schema import Config, PolicyConfig
from mjxppo.run import checkpoint

CONFIG = Config(env="hopper", policy=PolicyConfig(hidden_sizes=(4,)))


def arrays_of(action: float) -> dict[str, np.ndarray]:
    """A Hopper's policy that always takes the same action."""
    actor = "learner/params/params/actor/mlp"
    return {
        f"{actor}/hidden_0/kernel": np.zeros((11, 4), np.float32),
        f"{actor}/hidden_0/bias": np.zeros(4, np.float32),
        f"{actor}/head/kernel": np.zeros((4, 6), np.float32),
        f"{actor}/head/bias": np.full(6, np.arctanh(action), np.float32),
        "learner/obs_moments/mean": np.zeros(11, np.float32),
        "learner/obs_moments/var": np.ones(11, np.float32),
    }


def save(step: Path, action: float, whole: bool = True) -> None:
    """A checkpoint of such a policy in a run's directory."""
    run = step.parent.parent
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("env: hopper\npolicy: {hidden_sizes: [4]}\n")
    checkpoint.write_arrays(step, arrays_of(action), CONFIG)
    if whole:
        checkpoint.write_checksums(step)
