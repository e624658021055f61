"""The report's pictures as SVG, which is small and sharp at any size."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mjxppo.analysis.plot.curves import NoValues, read_run
from mjxppo.analysis.plot.drawing import make_figure, x_unit
from mjxppo.analysis.plot.groups import group
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
_COLUMNS = 3


def return_curve(policies: Sequence[Path]) -> str | None:
    """Draws the learning curves as ``mjxppo plot`` does; returns SVG, or None where no episode has finished."""
    runs = []
    for directory in policies:
        with contextlib.suppress(NoValues):
            runs.append(read_run(directory, "episode_return", "env_steps", smooth=100))
    if not runs:
        return None
    return _svg(make_figure(group(runs, "range"), "episode_return", "env_steps", 100, "range"))


def learning_panels(rows: list[Row]) -> str | None:
    """Draws small curves of the other logged metrics; returns SVG, or None where there are none."""
    names = [name for name in _PANELS if any(isinstance(row.get(name), int | float) for row in rows)]
    if not names:
        return None
    height = math.ceil(len(names) / _COLUMNS)
    figure = Figure(figsize=(10.8, 2.1 * height), layout="constrained")
    places = list(figure.subplots(height, _COLUMNS, squeeze=False, sharex=True).flat)
    unit, axis = x_unit("env_steps", float(rows[-1]["env_steps"]))
    x = np.array([row["env_steps"] for row in rows]) / unit
    for place, name in zip(places, names, strict=False):
        y = np.array([value if isinstance(value := row.get(name), int | float) else np.nan for row in rows], float)
        place.plot(x, y, color=_BLUE, linewidth=0.9, marker="o" if len(rows) == 1 else None)
        place.set_title(_PANELS[name], loc="left", fontsize=9)
        _style(place)
    for place in places[len(names) :]:
        place.set_visible(False)
    figure.supxlabel(axis, fontsize=9, color=_GREY)
    return _svg(figure)


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
    if max(np.abs(panel.get_ylim())) >= 10_000:
        panel.yaxis.set_major_formatter("{x:,.0f}")


def _svg(figure: Figure) -> str:
    """The figure's SVG; text becomes outlines, so that it looks the same on every machine."""
    content = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mjxppo", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
