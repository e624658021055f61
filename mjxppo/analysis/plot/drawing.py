"""Drawing of learning curves with matplotlib's objects: no display and none of its global state is used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mjxppo.analysis.plot.curves import Evaluation, XAxis
from mjxppo.analysis.plot.groups import Band, Curve
from mjxppo.files import replacing

# Distinguishable with any colour vision (Okabe and Ito 2008), the pale yellow left out.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "-.", ":")
_DASHES = (5, 3)
_MOST_WITH_LINES = 4
"""Curves in a panel whose runs are drawn as well; with more, nothing could be told apart."""
_GREY = "#666666"
_EVALUATED: dict[str, Any] = {"linestyle": ":", "linewidth": 1.0, "marker": "o", "markersize": 4.5}
_ALPHA_EVALUATED = 0.9
_BANDS = {
    "range": "min to max of the seeds",
    "std": "± 1 standard deviation",
    "ci95": "95 % confidence interval of the mean",
}
_Y_LABELS = {
    "episode_return": "return of an episode (sum of rewards)",
    "expected_return": "expected return of an episode (sum of rewards)",
    "eval/return_mean": "return of the deterministic policy, evaluated while training",
    "episode_length": "length of an episode (steps)",
    "episode_return_std": "standard deviation of episode returns",
    "approx_kl": "KL divergence per update (nats)",
    "clip_fraction": "share of samples clipped",
    "entropy": "entropy of the squashed policy (nats)",
    "env_steps_per_s": "speed (environment steps per second)",
    "explained_variance": "explained variance of the value function",
    "grad_norm": "norm of the gradient",
    "grad_norm_variance": "variance of the gradient's norm",
    "learning_rate": "learning rate",
    "std": "standard deviation of actions before squashing",
    "time_s": "time (s)",
}


def draw_curves(curves: list[Curve], out: Path, y: str, x: XAxis, smooth: int, band: Band) -> None:
    """Writes a picture of the curves; raises as ``save_figure``."""
    save_figure(make_figure(curves, y, x, smooth, band), out)


def save_figure(figure: Figure, out: Path, dpi: int = 160) -> None:
    """Writes a figure in the format that ``out``'s suffix names; raises UserError where it cannot be written."""
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix.lower().lstrip("."), dpi=dpi)


def make_figure(curves: list[Curve], y: str, x: XAxis, smooth: int, band: Band) -> Figure:
    """Makes a figure with one panel for each task; arguments as ``mjxppo.analysis.plot.plot`` takes them."""
    envs = list(dict.fromkeys(curve.env for curve in curves))
    panels = [[curve for curve in curves if curve.env == env] for env in envs]
    columns = min(len(envs), 3)
    rows = math.ceil(len(envs) / columns)
    height = 4.7 + 0.2 * max(len(panel) for panel in panels)  # legends are below the panels
    figure = Figure(figsize=((7.6 if len(envs) == 1 else 6.2) * columns, height * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, panel in zip(places, panels, strict=False):
        handles = draw_panel(place, panel, y, x, smooth, band)
        place.set_title(panel[0].env, loc="left", fontweight="bold")
        # Below the panel, where it covers no curve.
        place.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.13), fontsize=9, frameon=False)
    for place in places[len(panels) :]:
        place.set_visible(False)
    return figure


def draw_panel(panel: Axes, curves: list[Curve], y: str, x: XAxis, smooth: int, band: Band) -> list[Artist]:
    """Draws one task's curves; returns the handles for its legend."""
    unit, name = x_unit(x, max(curve.x[-1] for curve in curves))
    handles: list[Artist] = []
    for i, curve in enumerate(curves):
        colour = _COLOURS[i % len(_COLOURS)]
        handles.append(_draw_curve(panel, curve, unit, colour, _STYLES[i // len(_COLOURS) % len(_STYLES)]))
        if len(curves) <= _MOST_WITH_LINES and len(curve.runs) > 1:
            for run in curve.runs:
                panel.plot(run.x / unit, run.y, color=colour, alpha=0.35, linewidth=0.7)
        if curve.evaluation is not None:
            panel.axhline(curve.evaluation.mean, color=colour, linewidth=1.2, dashes=_DASHES)
        for steps, returns in (run.evaluated for run in curve.runs if run.evaluated is not None):
            panel.plot(steps / unit, returns, color=colour, alpha=_ALPHA_EVALUATED, **_EVALUATED)
    if any(run.evaluated is not None for curve in curves for run in curve.runs):
        label = "evaluated while training, deterministic policy"
        handles.append(Line2D([], [], color=_GREY, label=label, **_EVALUATED))
    if any(len(curve.runs) > 1 for curve in curves):
        handles.append(Patch(facecolor=_GREY, alpha=0.25, label=f"band: {_BANDS[band]}"))
    evaluated = {curve.evaluation.over for curve in curves if curve.evaluation is not None}
    if evaluated:
        text = f"evaluated in Gymnasium, mean ± standard deviation over {' or '.join(sorted(evaluated))}"
        handles.append(Line2D([], [], color=_GREY, linewidth=1.2, dashes=_DASHES, label=text))

    panel.set_xlabel(name)
    panel.set_ylabel(_Y_LABELS.get(y, y.replace("_", " ")))
    panel.set_xlim(left=0)
    panel.margins(x=0.02)
    if any(curve.logarithmic for curve in curves):
        panel.set_yscale("log")
    elif max(np.abs(panel.get_ylim())) >= 1000:
        panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.set_title(_smoothing(curves, y, smooth), loc="right", fontsize=9, color=_GREY)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    return handles


def _draw_curve(panel: Axes, curve: Curve, unit: float, colour: str, style: str) -> Artist:
    """Draws a curve with its band, or one run's with the values before smoothing; returns the legend's handle."""
    many = len(curve.runs) > 1
    label = "training" if curve.label == curve.env else curve.label
    if many:
        label += f", mean of {len(curve.runs)} seeds"
    elif curve.seeds[0] is not None:
        label += f", seed {curve.seeds[0]}"
    if curve.evaluation is not None:
        label += f"; in Gymnasium {_with_spread(curve.evaluation)}"
    position = curve.x / unit
    if many:
        panel.fill_between(position, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    elif _is_noisy(curve):
        panel.plot(position, curve.runs[0].y, color=colour, alpha=0.3, linewidth=0.8)
    marker = "o" if len(position) == 1 else None  # a line through one point is invisible
    return panel.plot(position, curve.mean, style, color=colour, linewidth=2, marker=marker, label=label)[0]


def _with_spread(evaluation: Evaluation) -> str:
    decimals = 0 if evaluation.std >= 10 else 1 if evaluation.std >= 1 else 2
    return f"{evaluation.mean:,.{decimals}f} ± {evaluation.std:,.{decimals}f}"


def _is_noisy(curve: Curve) -> bool:
    """Whether the curve is one run's and was smoothed; then the logged values are drawn as well."""
    return len(curve.runs) == 1 and not np.array_equal(curve.runs[0].y, curve.mean)


def _smoothing(curves: list[Curve], y: str, smooth: int) -> str:
    """The words that say how the points of the curves were averaged."""
    if not y.startswith("episode_"):
        geometric = any(curve.logarithmic and len(curve.runs) > 1 for curve in curves)
        return "each update" + (", geometric mean of the seeds" if geometric else "")
    if not smooth:
        return "mean of each update's episodes"
    noisy = any(_is_noisy(curve) for curve in curves)
    return f"mean of the last {smooth} episodes" + ("; faint: of each update's" if noisy else "")


def x_unit(x: XAxis, largest: float) -> tuple[float, str]:
    """The unit that x is divided by, such as 1e6, and the axis label that names it; ``largest`` is the largest x."""
    if x == "env_steps":
        units, name = [(1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1, "")], "environment steps"
    else:
        units, name = [(3600, "h"), (60, "min"), (1, "s")], "training time, without compilation"
    unit, text = next(((u, t) for u, t in units if largest >= 2 * u), units[-1])
    return unit, f"{name} ({text})" if text else name
