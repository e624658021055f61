"""Learning curves of one or more runs, from the metrics that they logged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mjxppo.analysis.plot.curves import NoValues, Run, XAxis, read_run
from mjxppo.analysis.plot.groups import Band, group
from mjxppo.analysis.runs import find_runs
from mjxppo.console import say
from mjxppo.errors import UserError

SUFFIXES = (".png", ".pdf", ".svg")
FILE = "curves.png"


def plot(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    y: str = "episode_return",
    x: XAxis = "env_steps",
    smooth: int = 100,
    band: Band = "range",
) -> dict[str, Any]:
    """Draws one curve for each set of runs that differ in nothing but the seed, and one panel for each task.

    Args:
        runs: run directories; one named twice counts once.
        out: a file ending in .png, .pdf or .svg; default: curves.png, in the run's directory where there is one run,
            else in the working directory.
        y: a column of metrics.jsonl.
        x: "env_steps", or "time_s": seconds of training, without compilation.
        smooth: number of last episodes, at least, over which metrics of episodes are averaged; 0: no smoothing.
        band: the band around the mean of several seeds: "range" (min to max), "std", or "ci95" of the mean.

    Returns:
        What was drawn, ready for JSON: path, x, y, and for each curve its label, env, seeds, runs, and final value.

    Raises:
        UserError: a run has no metrics, the metric is unknown or has no values yet, or ``out`` cannot be written.
    """
    if smooth < 0:
        raise UserError(f"smooth: must be 0 or more episodes, not {smooth}")
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UserError(f"out: {out} must end in {', '.join(SUFFIXES)}")
    # Without repetitions: runs/latest is another name of one of runs/*.
    directories = list(dict.fromkeys(directory for path in runs for directory in find_runs(path)))
    if not directories:
        raise UserError("plot: name at least one run directory")
    if out is None:
        out = Path(os.path.commonpath(directories)) / FILE if len(runs) == 1 else Path(FILE)
    curves = group(_read(directories, y, x, smooth), band)
    from mjxppo.analysis.plot.drawing import draw_curves  # imports matplotlib, which ``plot --help`` does not need

    draw_curves(curves, out, y, x, smooth, band)
    return {
        "path": str(out),
        "x": x,
        "y": y,
        "curves": [
            {
                "label": curve.label,
                "env": curve.env,
                "seeds": curve.seeds,
                "runs": [str(directory) for directory in curve.directories],
                "final_x": float(curve.x[-1]),
                "final_y": float(curve.mean[-1]),
            }
            for curve in curves
        ],
    }


def _read(directories: list[Path], y: str, x: XAxis, smooth: int) -> list[Run]:
    """The runs that have values of ``y``; names the others on standard error. Raises NoValues where none has."""
    found: list[Run] = []
    without: list[NoValues] = []
    for directory in directories:
        try:
            found.append(read_run(directory, y, x, smooth))
        except NoValues as error:
            without.append(error)
    if not found:
        raise without[0]
    for reason in without:
        say(f"left out: {reason}")
    return found
