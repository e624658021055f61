"""How well a policy bears a robot that differs from the model: returns in C MuJoCo over a grid of changes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.envs.randomize.changes import QUANTITIES
from mjxppo.errors import UserError
from mjxppo.files import replacing
from mjxppo.policy.evaluate import ActFunction, in_processes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FALLEN, KEPT = 0.5, 0.8
"""Shares of the nominal return: what keeps less than the first has fallen, what keeps the second bears a change."""
FILE, SUFFIXES = "robustness.png", (".png", ".pdf", ".svg")


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


def check_axes(axes: Sequence[Axis]) -> None:
    """Raises UserError unless there are one or two axes, of different quantities."""
    names = [axis.name for axis in axes]
    if not 1 <= len(axes) <= 2 or len(set(names)) != len(names):
        raise UserError(f"perturb: one quantity, or two different ones, not {' and '.join(names) or 'none'}")


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
    check_axes(axes)
    names = [axis.name for axis in axes]
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


def compare(grids: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Several results of ``grid`` on the same robots, against the first of them.

    Returns:
        For each: ``nominal`` (return on the model itself), ``mean`` and ``least`` of the shares of it that are kept;
        ``fallen``, how many robots there are on which the first keeps less than half; on those ``fallen_mean`` and
        ``fallen_least`` (None where there are none), and ``kept``, on how many of them it keeps at least 80 %.
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


def draw_shares(grids: Mapping[str, dict[str, Any]], out: Path) -> None:
    """Writes pictures of several results of ``grid`` beside each other, as shares of each one's nominal return."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 + 4.4 * len(grids), 4.2), layout="constrained")
    panels = figure.subplots(1, len(grids), squeeze=False, sharey=True)[0]
    for panel, (name, result) in zip(panels, grids.items(), strict=True):
        share = np.array(result["share"])
        if share.ndim == 2:
            image = _heat_map(panel, result, 100 * share, (0, 100))
        else:
            (axis, values), *_ = result["axes"].items()
            panel.plot(values, 100 * share, "o-")
            panel.set(xlabel=_label(axis), ylim=(0, max(105, 105 * share.max())))
        panel.set_title(f"{name}: {np.mean(result['nominal']):.0f} on the model itself", fontsize=9, loc="left")
    if share.ndim == 2:
        figure.colorbar(image, ax=panels, label="return (% of that on the model itself)")
    else:
        panels[0].set_ylabel("return (% of that on the model itself)")
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix.lower().lstrip("."), dpi=160)


def draw(result: dict[str, Any], out: Path) -> None:
    """Writes a picture of a grid: a heat map, or a line where there is one axis; ``out``'s suffix names the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    panel = figure.subplots()
    (first, values), *others = result["axes"].items()
    mean = np.array(result["mean"])
    if others:
        figure.colorbar(_heat_map(panel, result, mean, (mean.min(), mean.max())), label="mean return")
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


def _heat_map(panel: Axes, result: dict[str, Any], colors: np.ndarray, limits: tuple[float, float]) -> Any:
    """A grid with two axes; the text in each cell is the share of the nominal return."""
    (first, rows), (second, columns) = result["axes"].items()
    image = panel.imshow(colors, origin="lower", aspect="auto", cmap="viridis", vmin=limits[0], vmax=limits[1])
    panel.set_xticks(range(len(columns)), [f"{x:g}" for x in columns])
    panel.set_yticks(range(len(rows)), [f"{x:g}" for x in rows])
    panel.set(xlabel=_label(second), ylabel=_label(first))
    for (i, j), share in np.ndenumerate(np.array(result["share"])):
        dark = colors[i, j] < sum(limits) / 2
        panel.text(j, i, f"{100 * share:.0f} %", ha="center", va="center", color="white" if dark else "black")
    return image


def _label(name: str) -> str:
    return "slope (degrees, uphill)" if name == "slope" else f"{name} (times the model's)"
