"""Pictures of the returns on robots that differ from the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mjxppo.analysis.plot.drawing import save_figure
from mjxppo.console import score


def draw_shares(grids: Mapping[str, dict[str, Any]], out: Path) -> None:
    """Writes a picture with several results of ``measure_grid`` side by side, as shares of the nominal returns."""
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
        panel.set_title(f"{name}: {score(np.mean(result['nominal']))} on the model itself", fontsize=9, loc="left")
    if share.ndim == 2:
        figure.colorbar(image, ax=panels, label="return (% of that on the model itself)")
    else:
        panels[0].set_ylabel("return (% of that on the model itself)")
    save_figure(figure, out)


def draw_grid(result: dict[str, Any], out: Path) -> None:
    """Writes a picture of a grid: a heat map, or a line where there is one axis; ``out``'s suffix names the format."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    panel = figure.subplots()
    (first, values), *others = result["axes"].items()
    mean = np.array(result["mean"])
    if others:
        figure.colorbar(
            _heat_map(panel, result, mean, _limits(mean, float(np.mean(result["nominal"])))), label="mean return"
        )
    else:
        panel.plot(values, mean, "o-")
        panel.axhline(np.mean(result["nominal"]), color="#666666", linestyle="--", label="the model itself")
        panel.set_xlabel(_label(first))
        panel.set_ylabel("mean return")
        panel.legend(frameon=False)
    policies = f"{len(result['nominal'])} policies" if len(result["nominal"]) > 1 else "one policy"
    how = "; text: share of the return on the model itself" if others else ""
    panel.set_title(f"{result['env']}, {policies}, {result['episodes']} episodes each{how}", fontsize=9, loc="left")
    save_figure(figure, out)


def _limits(mean: np.ndarray, nominal: float) -> tuple[float, float]:
    """The returns at the ends of the colours: what is as good as on the model itself, or better, has the best one."""
    if nominal > 0:
        return 0.0, nominal
    return min(float(mean.min()), nominal - max(1.0, abs(nominal))), nominal


def _heat_map(panel: Axes, result: dict[str, Any], colors: np.ndarray, limits: tuple[float, float]) -> Any:
    """Draws a grid with two axes; the text in each cell is the share of the nominal return. Returns the image."""
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
