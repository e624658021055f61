"""How well a policy bears a robot that differs from the model: returns in C MuJoCo over a grid of changes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from mjxppo.config import Config
from mjxppo.errors import UserError
from mjxppo.evaluate import ActFunction, in_processes
from mjxppo.files import replacing
from mjxppo.physics.parameters import nominal
from mjxppo.randomize.quantities import FIELDS, tilted

FILE, SUFFIXES = "robustness.png", (".png", ".pdf", ".svg")
QUANTITIES = (*FIELDS, "slope")
"""What can be changed: by a factor on the model's own value, the slope to an angle (degrees, uphill is positive)."""


class Axis(NamedTuple):
    """One changed quantity and its values."""

    name: str
    values: tuple[float, ...]


def parse_axis(text: str, points: int) -> Axis:
    """An axis from ``NAME=LOW:HIGH``, with evenly spaced values.

    Raises:
        UserError: the text is something else, or names nothing that can be changed.
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


def changed_fields(model: mujoco.MjModel, changes: dict[str, float]) -> dict[str, np.ndarray]:
    """The model's fields after changes of quantities, by MuJoCo's names."""
    fields: dict[str, np.ndarray] = {}
    for name, change in changes.items():
        for field in FIELDS.get(name, ()):
            fields[field] = fields.get(field, nominal(model, field)) * change
    if "slope" in changes:
        angle = np.deg2rad(changes["slope"])
        gravity = fields.get("opt.gravity", nominal(model, "opt.gravity"))
        fields["opt.gravity"] = np.array(tilted(gravity, np.cos(angle), np.sin(angle)))
    return fields


def grid(
    policies: Sequence[tuple[ActFunction, Config]], axes: Sequence[Axis], num_episodes: int, seed: int
) -> dict[str, Any]:
    """Returns of policies in Gymnasium's C MuJoCo on every combination of the axes' values, and on the model itself.

    Args:
        policies: of one task, each with its run's configuration.
        axes: one or two.
        num_episodes: for each policy in each cell; all cells use the same seeds.
        seed: the first episode's seed.

    Returns:
        Ready for JSON: ``axes``, ``nominal`` (mean return of each policy), and ``mean`` with the axes' shape (over
        policies), ``share`` (of the nominal return) and ``policies`` (each one's ``mean`` of that shape).

    Raises:
        UserError: an axis twice or too many, or a task that is none of Gymnasium's.
    """
    names = [axis.name for axis in axes]
    if not 1 <= len(axes) <= 2 or len(set(names)) != len(names):
        raise UserError(f"perturb: one quantity, or two different ones, not {' and '.join(names)}")
    cells: list[dict[str, float]] = [{}]
    cells += [dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]
    jobs = [(policy, config, "gymnasium", num_episodes, seed, cell) for policy, config in policies for cell in cells]
    means = np.array([result["mean"] for result in in_processes(jobs)]).reshape(len(policies), len(cells))
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


def draw(result: dict[str, Any], out: Path) -> None:
    """Writes a picture of a grid: a heat map, or a line where there is one axis; ``out``'s suffix names the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    panel = figure.subplots()
    (first, values), *others = result["axes"].items()
    mean = np.array(result["mean"])
    panel.set_ylabel(_label(first))
    if others:
        second, columns = others[0]
        image = panel.imshow(mean, origin="lower", aspect="auto", cmap="viridis")
        figure.colorbar(image, label="mean return")
        panel.set_xticks(range(len(columns)), [f"{x:g}" for x in columns])
        panel.set_yticks(range(len(values)), [f"{x:g}" for x in values])
        panel.set_xlabel(_label(second))
        middle = (mean.min() + mean.max()) / 2
        for (i, j), share in np.ndenumerate(np.array(result["share"])):
            dark = mean[i, j] < middle
            panel.text(j, i, f"{100 * share:.0f} %", ha="center", va="center", color="white" if dark else "black")
    else:
        panel.plot(values, mean, "o-")
        panel.axhline(np.mean(result["nominal"]), color="#666666", linestyle="--", label="the model itself")
        panel.set_xlabel(_label(first))
        panel.set_ylabel("mean return")
        panel.legend(frameon=False)
    policies = f"{len(result['nominal'])} policies" if len(result["nominal"]) > 1 else "one policy"
    how = "; text: share of the return on the model itself" if others else ""
    panel.set_title(f"{result['env']}, {policies}, {result['episodes']} episodes each{how}", fontsize=9, loc="left")
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix.lower().lstrip("."), dpi=160)


def _label(name: str) -> str:
    return "slope (degrees, uphill)" if name == "slope" else f"{name} (times the model's)"
