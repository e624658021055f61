"""``mjxppo report``: one self-contained web page about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class ReportArguments:
    """Writes one self-contained page about a run."""

    run: Annotated[Path, POSITIONAL]
    """A run directory; it may still be training."""
    out: Path | None = None
    """File to write (.html); default: report.html in the run directory."""
    split: bool = False
    """First measure an update's parts on this machine: physics, policy, GAE, gradient steps (compiles programs for
    them)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ReportArguments, arguments, "mjxppo report")
    from mjxppo.analysis.report import report

    if parsed.split:
        from mjxppo.console import waiting
        from mjxppo.measure.train import measure_split

        with waiting("measuring how an update splits into parts"):
            measure_split(parsed.run)
    print_json(report(parsed.run, parsed.out))
    return 0
