"""Runs that nobody trained: checkpoints of policies that always take the same action."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mjxppo.config.schema import Config, PolicyConfig
from mjxppo.run import checkpoint

CONFIG = Config(env="hopper", policy=PolicyConfig(hidden_sizes=(4,)))
_SIZES = {"hopper": (11, 3), "quadruped": (48, 12)}
"""Numbers in an observation and in an action."""


def arrays_of(action: float, env: str = "hopper") -> dict[str, np.ndarray]:
    """A policy that always takes the same action."""
    actor, (obs_size, action_size) = "learner/params/params/actor/mlp", _SIZES[env]
    return {
        f"{actor}/hidden_0/kernel": np.zeros((obs_size, 4), np.float32),
        f"{actor}/hidden_0/bias": np.zeros(4, np.float32),
        f"{actor}/head/kernel": np.zeros((4, 2 * action_size), np.float32),
        f"{actor}/head/bias": np.full(2 * action_size, np.arctanh(action), np.float32),
        "learner/obs_moments/mean": np.zeros(obs_size, np.float32),
        "learner/obs_moments/var": np.ones(obs_size, np.float32),
    }


def save(step: Path, action: float, whole: bool = True, env: str = "hopper") -> None:
    """A checkpoint of such a policy in a run's directory."""
    run = step.parent.parent
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(f"env: {env}\npolicy: {{hidden_sizes: [4]}}\n")
    checkpoint.write_arrays(step, arrays_of(action, env), replace(CONFIG, env=env))
    if whole:
        checkpoint.write_checksums(step)
