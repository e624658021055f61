"""One picture with several metrics of several variants, for studies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mjxppo.analysis.plot.curves import NoValues, UnknownMetric, read_run
from mjxppo.analysis.plot.drawing import draw_panel, save_figure
from mjxppo.analysis.plot.groups import Curve, curve_of
from mjxppo.analysis.runs import find_runs
from mjxppo.console import say

_SMOOTH = 100


def draw_overview(variants: Mapping[str, Path], metrics: Sequence[str], title: str, out: Path) -> None:
    """Draws one panel for each metric and in each of them one curve for each variant, with 95 % confidence bands.

    A variant's run directory has one policy, or several that differ in the seed alone. Metrics of episodes are averaged
    over the last 100. The suffix of ``out`` names the format.

    Raises:
        UserError: no variant has a metric of that name, or ``out`` cannot be written.
    """
    save_figure(make_overview(variants, metrics, title), out, dpi=110)


def make_overview(variants: Mapping[str, Path], metrics: Sequence[str], title: str) -> Figure:
    """The figure that ``draw_overview`` writes."""
    columns = min(len(metrics), 3)
    rows = math.ceil(len(metrics) / columns)
    legend_height = 0 if rows * columns > len(metrics) else 0.2 * len(variants) + 0.6
    figure = Figure(figsize=(max(5.0 * columns, 7.6), 3.7 * rows + legend_height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    spare = places[len(metrics) :]
    for place in spare:
        place.set_axis_off()
    legends = []
    for place, metric in zip(places, metrics, strict=False):
        if curves := _curves(variants, metric):
            legends.append(draw_panel(place, curves, metric, "env_steps", _SMOOTH, "ci95"))
    # All panels have the same variants; the longest legend also has the evaluations.
    handles = max(legends, key=len, default=[])
    if spare:
        spare[0].legend(handles=handles, loc="center left", fontsize=9, frameon=False)
    else:
        figure.legend(handles=handles, loc="outside lower left", fontsize=9, frameon=False)
    return figure


def _curves(variants: Mapping[str, Path], metric: str) -> list[Curve]:
    """A curve for each variant that has values of the metric; the other variants are named on standard error.

    Raises UserError where no variant has the metric: algorithms differ in what they log.
    """
    curves: list[Curve] = []
    unknown: list[UnknownMetric] = []
    for name, path in variants.items():
        try:
            runs = [read_run(directory, metric, "env_steps", _SMOOTH) for directory in find_runs(path)]
        except (NoValues, UnknownMetric) as error:
            if isinstance(error, UnknownMetric):
                unknown.append(error)
            say(f"left out: {error}")
            continue
        curves.append(curve_of(name, runs, "ci95"))
    if unknown and len(unknown) == len(variants):
        raise unknown[0]
    return curves
