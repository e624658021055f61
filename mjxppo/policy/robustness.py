"""Robustness of a policy to changes of the robot's model: returns in C MuJoCo over a grid of changes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.envs.foreign.adapted import change_model
from mjxppo.envs.randomize.changes import QUANTITIES
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import check_changeable, evaluate_in_processes, make_gymnasium_env
from mjxppo.policy.policy import ActFunction

FALLEN, KEPT = 0.5, 0.8
"""Shares of the return on the unchanged model: below the first a policy counts as fallen, from the second on as robust.
"""
FILE, SUFFIXES = "robustness.png", (".png", ".pdf", ".svg")


class Axis(NamedTuple):
    """A changed quantity and its values: factors, or degrees of slope."""

    name: str
    values: tuple[float, ...]


def parse_axis(text: str, points: int) -> Axis:
    """Parses ``NAME=LOW:HIGH`` to an axis of ``points`` evenly spaced values.

    Raises:
        UserError: the text has another form, or names no quantity that can be changed.
    """
    match = re.fullmatch(r"([a-z_]+)=([-+.\deE]+):([-+.\deE]+)", text)
    try:
        name, low, high = match.group(1), float(match.group(2)), float(match.group(3))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        raise UserError(f"perturb: {text!r} is not NAME=LOW:HIGH, such as friction=0.5:1.5") from None
    if name not in QUANTITIES:
        raise UserError(f"perturb: {name!r} is none of {', '.join(QUANTITIES)}")
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"perturb: the range of {name} must be from a smaller to a larger number, not {low:g}:{high:g}")
    if name != "slope" and low <= 0:
        raise UserError(f"perturb: factors of {name} must be positive, not {low:g}")
    if points < 2:
        raise UserError(f"perturb_points: must be at least 2, not {points}")
    return Axis(name, tuple(float(x) for x in np.linspace(low, high, points).round(10)))


def check_axes(axes: Sequence[Axis]) -> None:
    """Raises UserError unless there are one or two axes, of different quantities."""
    names = [axis.name for axis in axes]
    if not 1 <= len(axes) <= 2 or len(set(names)) != len(names):
        raise UserError(f"perturb: one quantity, or two different ones, not {' and '.join(names) or 'none'}")


def measure_grid(
    policies: Sequence[tuple[ActFunction, Config]], axes: Sequence[Axis], num_episodes: int, seed: int
) -> dict[str, Any]:
    """Measures returns in Gymnasium's C MuJoCo at every combination of the axes' values and on the unchanged model.

    The policies are for one task, each with its run's configuration. There are one or two axes. Each policy runs
    ``num_episodes`` episodes in each cell; all cells use the same seeds, from ``seed`` on.

    Returns:
        Ready for JSON: ``axes``; ``nominal``, each policy's mean return on the unchanged model; ``mean``, the mean
        return over policies, with the axes' shape; ``share``, ``mean`` divided by the mean of ``nominal``; and
        ``policies``, the mean returns of each policy, with the axes' shape.

    Raises:
        UserError: a quantity occurs twice, there are more than two axes, or Gymnasium does not have the task.
    """
    check_axes(axes)
    for _, config in policies:
        check_changeable(config, "gymnasium")
    names = [axis.name for axis in axes]
    cells: list[dict[str, float]] = [{}]
    cells += [dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]
    # Before any process starts: all policies are for one task.
    env = make_gymnasium_env(policies[0][1])
    change_model(env, cells[1], "perturb")
    env.close()
    jobs = [(policy, config, "gymnasium", num_episodes, seed, cell) for policy, config in policies for cell in cells]
    means = np.array([result["mean"] for result in evaluate_in_processes(jobs)]).reshape(len(policies), len(cells))
    shape = tuple(len(axis.values) for axis in axes)
    by_policy = means[:, 1:].reshape(-1, *shape)
    return {
        "env": policies[0][1].env,
        "engine": "gymnasium",
        "episodes": num_episodes,
        "seed": seed,
        "axes": {axis.name: list(axis.values) for axis in axes},
        "nominal": means[:, 0].tolist(),
        "mean": by_policy.mean(0).tolist(),
        "share": (by_policy.mean(0) / means[:, 0].mean()).tolist(),
        "policies": by_policy.tolist(),
    }


def compare_grids(grids: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Compares several results of ``measure_grid`` on the same robots with the first of them.

    Returns:
        For each result: ``nominal``, the return on the unchanged model; ``mean`` and ``least`` of its shares on all
        robots; ``fallen``, the number of robots on which the first result's share is below one half; ``fallen_mean``
        and ``fallen_least`` of its own shares on those robots (None where there are none); and ``kept``, the number of
        those robots on which its own share is at least 80 %.
    """
    shares = {name: np.array(result["share"]) for name, result in grids.items()}
    fallen = next(iter(shares.values())) < FALLEN
    return {
        name: {
            "nominal": float(np.mean(grids[name]["nominal"])),
            "mean": float(share.mean()),
            "least": float(share.min()),
            "fallen": int(fallen.sum()),
            "fallen_mean": float(share[fallen].mean()) if fallen.any() else None,
            "fallen_least": float(share[fallen].min()) if fallen.any() else None,
            "kept": int((share[fallen] >= KEPT).sum()),
        }
        for name, share in shares.items()
    }
