"""Several policies trained side by side in one program: the seeds, and the grid of settings, of one run.

A run with ``num_seeds`` or ``grid`` has one checkpoint tree, whose arrays have the member as first axis, and below the
run's directory one directory for each member, with the files that a run of its own would have.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from mjxppo.config.schema import Config
from mjxppo.config.values import from_dict, merge, to_dict
from mjxppo.errors import UserError

SWEPT = (
    "learning_rate",
    "gamma",
    "gae_lambda",
    "clip_eps",
    "value_coef",
    "entropy_coef",
    "max_grad_norm",
    "target_kl",
    "kl_penalty",
    "adam_b1",
    "adam_b2",
    "adam_eps",
)
"""Fields of ``PpoConfig`` that members may differ in: numbers that leave the program's shape as it is."""


class Member(NamedTuple):
    """One of the policies of a run."""

    name: str
    """Name of its directory."""
    config: Config
    """The configuration of the same training as a run of its own."""


def trains_several(config: Config) -> bool:
    """Whether a run trains more than a single policy, and its arrays have the member as first axis."""
    return config.num_seeds > 1 or bool(config.grid)


def members_of(config: Config) -> tuple[Member, ...]:
    """The members of a run: every point of the grid with every seed.

    Raises UserError where the grid names a field that cannot be swept, or a value that the field does not take.
    """
    if not trains_several(config):
        return (Member("", config),)
    for name, values in config.grid.items():
        _check_axis(name, values)
    points = [dict(zip(config.grid, point, strict=True)) for point in itertools.product(*config.grid.values())]
    seeds = range(config.seed, config.seed + config.num_seeds)
    return tuple(_member(config, point, seed) for point in points for seed in seeds)


def swept_values(config: Config) -> dict[str, list[float]]:
    """The fields of ``PpoConfig`` that the grid varies, with one value a member."""
    members = members_of(config)
    return {
        name.removeprefix("ppo."): [getattr(member.config.ppo, name.removeprefix("ppo.")) for member in members]
        for name in config.grid
    }


def member_directories(run_dir: Path, config: Config) -> list[Path]:
    """Where each member's metrics and evaluation go: the run's directory itself where there is one member."""
    return [run_dir / member.name for member in members_of(config)]


def _check_axis(name: str, values: tuple[float, ...]) -> None:
    section, _, field = name.partition(".")
    if section != "ppo" or field not in SWEPT:
        choices = ", ".join(f"ppo.{field}" for field in SWEPT)
        raise UserError(f"grid: {name} cannot be swept in one program; choose from {choices}")
    if not values or len(set(values)) != len(values):
        raise UserError(f"grid: {name} needs one or more different values, such as {name}=1e-4,3e-4")


def _member(config: Config, point: dict[str, float], seed: int) -> Member:
    changes: dict[str, Any] = {"ppo": {name.removeprefix("ppo."): value for name, value in point.items()}}
    alone = dataclasses.replace(config, seed=seed, num_seeds=1, grid={})
    name = "_".join([f"{name.removeprefix('ppo.')}-{value:.15g}" for name, value in point.items()] + [f"seed-{seed}"])
    return Member(name, from_dict(merge(to_dict(alone), changes)))
