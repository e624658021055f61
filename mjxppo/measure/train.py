"""Training throughput with everything included, its split into parts, and compile times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mjxppo.config.randomize import RandomizeConfig, Spread
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of
from mjxppo.measure import split
from mjxppo.measure.rounds import UPDATES, Rounds, endless
from mjxppo.run import loop
from mjxppo.run.machine import describe

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
"""Everything that can vary, varies."""


def run(configs: Sequence[Config], repeats: int = 5, skip_updates: int = 0) -> dict[str, Any]:
    """Measures training.

    All programs are compiled first; then they take turns, round after round, so that a change of the machine's load
    hits them alike.

    Args:
        configs: checked configurations; of one with several policies the first is measured.
        repeats: rounds of some updates each; the median counts.
        skip_updates: trained before the first round at least; short episodes at the start of a run cost resets.

    Returns:
        ``{"hardware", "versions", "results"}``; for each configuration ``env_steps_per_s`` of training with
        everything included, ``relative`` to the first configuration (median over rounds), milliseconds of an update
        and of its parts (see ``split``), and ``compile_s``.
    """
    programs = [Rounds(loop.build(endless(members_of(config)[0].config))) for config in configs]
    for _ in range(1 + skip_updates // UPDATES):  # the first round is a warm-up
        for program in programs:
            program.seconds()
    seconds = np.array([[program.seconds() for program in programs] for _ in range(repeats)])
    speeds = np.array([program.trainer.env_steps_per_update for program in programs]) / seconds
    relative = np.median(speeds / speeds[:, :1], axis=0)
    rows = [
        _row(program, own, float(share), repeats)
        for program, own, share in zip(programs, seconds.T, relative, strict=True)
    ]
    return {**describe(), "results": rows}


def _row(rounds: Rounds, seconds: np.ndarray, relative: float, repeats: int) -> dict[str, Any]:
    """One configuration's results, from the seconds of each round."""
    trainer, config = rounds.trainer, rounds.trainer.config
    env_steps = trainer.env_steps_per_update * UPDATES
    return {
        "env": config.env,
        "randomized": config.randomize.on,
        "num_envs": config.ppo.num_envs,
        "rollout_length": config.ppo.rollout_length,
        "num_devices": trainer.layout.num_devices,
        "env_steps_per_s": env_steps / float(np.median(seconds)),
        "env_steps_per_s_min": env_steps / seconds.max(),
        "env_steps_per_s_max": env_steps / seconds.min(),
        "relative": relative,
        "update_ms": 1e3 * float(np.median(seconds)) / UPDATES,
        "compile_s": rounds.compile_s,
        **split.measure(trainer, rounds.state, repeats),
    }
