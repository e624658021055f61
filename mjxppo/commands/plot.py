"""``mjxppo plot``: learning curves of one or more runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.analysis.plot.curves import XAxis
from mjxppo.analysis.plot.groups import Band
from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class PlotArguments:
    """Draws learning curves."""

    runs: Annotated[tuple[Path, ...], POSITIONAL]
    """Run directories; those that differ in nothing but the seed become one curve with a band."""
    out: Path | None = None
    """File to write: .png, .pdf or .svg; default: curves.png in the run directory, or here for several runs."""
    y: str = "episode_return"
    """A column of metrics.jsonl."""
    x: XAxis = "env_steps"
    """env_steps, or time_s (seconds of training, without compilation)."""
    smooth: int = 100
    """Metrics of episodes are averaged over at least this number of the last ones; 0: over each update's only."""
    band: Band = "range"
    """Around the mean of several seeds: range (min to max), std, or ci95 (confidence interval of the mean)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(PlotArguments, arguments, "mjxppo plot")
    from mjxppo.analysis.plot import plot

    result = plot(parsed.runs, parsed.out, y=parsed.y, x=parsed.x, smooth=parsed.smooth, band=parsed.band)
    print_json(result)
    return 0
