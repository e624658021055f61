"""The report's pictures as SVG, which is small and sharp at any size."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mjxppo.analysis.plot.curves import NoValues, read_run
from mjxppo.analysis.plot.drawing import make_figure, x_unit
from mjxppo.analysis.plot.groups import LOGARITHMIC, group
from mjxppo.run.metrics import Row

_BLUE, _GREY = "#0072B2", "#666666"
_PANELS = {
    "episode_length": "episode length (steps)",
    "env_steps_per_s": "environment steps per second",
    "approx_kl": "KL divergence per update (nats)",
    "clip_fraction": "share of samples clipped",
    "explained_variance": "explained variance of the values",
    "value_loss": "value loss",
    "std": "std of actions before squashing",
    "learning_rate": "learning rate",
    "grad_norm": "norm of the gradient",
    "randomization_extent": "share of the randomisation's ranges",
}


def return_curve(policies: Sequence[Path]) -> str | None:
    """Draws the learning curves as ``mjxppo plot`` does; returns SVG, or None where no episode has finished."""
    runs = []
    for directory in policies:
        with contextlib.suppress(NoValues):
            runs.append(read_run(directory, "episode_return", "env_steps", smooth=100))
    if not runs:
        return None
    figure = make_figure(group(runs, "range"), "episode_return", "env_steps", 100, "range")
    figure.set_size_inches(5.6, 4.3)  # its text can be read on a phone
    return _svg(figure)


def learning_panels(rows: list[Row]) -> list[str]:
    """Draws a small curve of each other logged metric; returns an SVG of each, so that a narrow page stacks them."""
    names = [name for name in _PANELS if any(isinstance(row.get(name), int | float) for row in rows)]
    unit, axis = x_unit("env_steps", float(rows[-1]["env_steps"]))
    x = np.array([row["env_steps"] for row in rows]) / unit
    return [_svg(_small_curve(x, axis, _PANELS[name], _values(rows, name), name in LOGARITHMIC)) for name in names]


def _values(rows: list[Row], name: str) -> np.ndarray:
    """One metric, [rows], NaN where it has no value."""
    return np.array([value if isinstance(value := row.get(name), int | float) else np.nan for row in rows], float)


def _small_curve(x: np.ndarray, axis: str, title: str, y: np.ndarray, logarithmic: bool) -> Figure:
    figure = Figure(figsize=(3.6, 2.2), layout="constrained")
    panel = figure.subplots()
    panel.plot(x, y, color=_BLUE, linewidth=0.9, marker="o" if len(x) == 1 else None)
    panel.set_title(title, loc="left", fontsize=9)
    panel.set_xlabel(axis, fontsize=8, color=_GREY)
    if logarithmic and np.nanmax(y) > 0:
        panel.set_yscale("log")
    _style(panel)
    return figure


def histogram(evaluation: dict[str, Any]) -> str | None:
    """Draws the distribution of the evaluation's returns; returns SVG, or None where they are not recorded."""
    returns = [value for value in evaluation.get("returns") or [] if isinstance(value, int | float)]
    if len(returns) < 2:
        return None
    figure = Figure(figsize=(5.2, 2.6), layout="constrained")
    panel = figure.subplots()
    panel.hist(returns, bins=min(30, max(5, len(returns) // 4)), color=_BLUE, alpha=0.8)
    panel.axvline(float(np.mean(returns)), color="#D55E00", linewidth=1.5)
    panel.set_xlabel("return of an episode; line: mean", fontsize=9)
    panel.set_ylabel("episodes", fontsize=9)
    _style(panel)
    return _svg(figure)


def _style(panel: Axes) -> None:
    """Sets the look that all small panels share."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8)
    panel.margins(x=0.02)
    if panel.get_yscale() == "linear" and max(np.abs(panel.get_ylim())) >= 10_000:
        panel.yaxis.set_major_formatter("{x:,.0f}")


def _svg(figure: Figure) -> str:
    """The figure's SVG; text becomes outlines, so that it looks the same on every machine.

    Its background is the page's, which may be dark.
    """
    content = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mjxppo", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return content.getvalue()
