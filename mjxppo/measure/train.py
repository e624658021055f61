"""Training throughput with everything included, the times of an update's parts, and compile times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjxppo.analysis.report.facts import SPLIT, run_directory
from mjxppo.config.check import make_config
from mjxppo.config.randomize import RandomizeConfig, Spread
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of
from mjxppo.config.values import read_yaml
from mjxppo.envs.registry import GYMNASIUM
from mjxppo.errors import UserError
from mjxppo.files import write_json
from mjxppo.measure.training_rounds import UPDATES, TrainingRounds, with_rounds
from mjxppo.measure.update_parts import PARTS, measure_parts
from mjxppo.run import start
from mjxppo.run.directory import CONFIG, run_of_member
from mjxppo.run.machine import describe
from mjxppo.run.model_files import as_trained

_SCALED: dict[str, Any] = {
    name: Spread("uniform", 0.8, 1.2, each=name not in ("friction", "gravity"))
    for name in ("mass", "inertia", "friction", "strength", "damping", "stiffness", "armature", "gravity")
}
EVERYTHING = RandomizeConfig(
    **_SCALED,
    slope=Spread("uniform", -3.0, 3.0, operation="add"),
    observation_bias=Spread("uniform", -0.01, 0.01, operation="add"),
    observation_noise=0.01,
    max_action_delay=2,
    drop_action=0.05,
    push=0.005,
)
"""Randomisation of every quantity that can be randomised."""

_WITHOUT_PARTS = ("es", "shac")
"""Algorithms whose updates are not made of a rollout, advantages and gradient steps on its batch."""


def measure_training(configs: Sequence[Config], repeats: int = 5, skip_updates: int = 0) -> dict[str, Any]:
    """Measures training.

    All programs are compiled first. Then they take turns, round after round, so that a change of the machine's load
    affects all of them.

    Args:
        configs: checked configurations; of one with several policies the first policy is measured.
        repeats: number of rounds of ``UPDATES`` updates; results are medians over rounds.
        skip_updates: least number of updates before the first round; the short episodes at the start of a run make
            resets more frequent.

    Returns:
        ``{"hardware", "versions", "results"}``; for each configuration ``env_steps_per_s`` of training with
        everything included, ``relative`` to the first configuration (median over rounds), milliseconds of an update
        and of its parts (see ``update_parts``; None for es and shac), and ``compile_s``.
    """
    runs = [TrainingRounds(start.build(with_rounds(_of_one_policy(config)))) for config in configs]
    for _ in range(1 + skip_updates // UPDATES):  # the first round is a warm-up
        for run in runs:
            run.train_round()
    rounds = np.array([[(run.train_round(), run.env_steps) for run in runs] for _ in range(repeats)])
    seconds, speeds = rounds[..., 0], rounds[..., 1] / rounds[..., 0]
    relative = np.median(speeds / speeds[:, :1], axis=0)
    columns = zip(runs, seconds.T, speeds.T, relative, strict=True)
    rows = [_row(run, took, rates, float(share), repeats) for run, took, rates, share in columns]
    return {**describe(), "results": rows}


def _of_one_policy(config: Config) -> Config:
    """The configuration of the first policy; raises UserError where the parts of its updates cannot be repeated."""
    if config.env.startswith(f"{GYMNASIUM}:"):
        raise UserError(
            f"env: {config.env} is simulated on the host, where single parts of an update cannot be repeated"
        )
    return members_of(config)[0].config


def measure_split(run: Path, repeats: int = 3) -> Path:
    """Measures the parts of an update of one policy of a run on this machine, for the run's report.

    ``run`` is a run directory, its ckpt/, or one step's folder. Results are medians of ``repeats`` rounds. Returns the
    file with them: split.json in the run's directory.
    """
    directory = run_directory(run)
    config = make_config(read_yaml(directory / CONFIG))
    if config.algorithm in _WITHOUT_PARTS:
        raise UserError(f"algorithm: an update of {config.algorithm} has not the parts of PPO's, which are measured")
    config = as_trained(members_of(config)[0].config, run_of_member(directory) or directory)
    write_json(directory / SPLIT, measure_training([config], repeats))
    return directory / SPLIT


def _row(
    rounds: TrainingRounds, seconds: np.ndarray, speeds: np.ndarray, relative: float, repeats: int
) -> dict[str, Any]:
    """One configuration's results, from the seconds and the environment steps a second of each round."""
    program, config = rounds.program, rounds.program.config
    return {
        "env": config.env,
        "algorithm": config.algorithm,
        "randomized": config.randomize.on,
        "num_envs": config.ppo.num_envs,
        "rollout_length": config.ppo.rollout_length,
        "num_devices": program.layout.num_devices,
        "env_steps_per_s": float(np.median(speeds)),
        "env_steps_per_s_min": float(speeds.min()),
        "env_steps_per_s_max": float(speeds.max()),
        "relative": relative,
        "update_ms": 1e3 * float(np.median(seconds)) / UPDATES,
        "compile_s": rounds.compile_s,
        **(
            dict.fromkeys(PARTS)
            if config.algorithm in _WITHOUT_PARTS
            else measure_parts(program, rounds.state, repeats)
        ),
    }
