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

    run: Annotated[Path, POSITIONAL] = Path("runs/latest")
    """A run directory, also of a run that still trains; default: the newest run."""
    out: Path | None = None
    """File to write (.html); default: report.html in the run directory."""
    best: bool = False
    """Show the policy of the best evaluation while training instead of the newest: evaluates and films it first."""
    split: bool = False
    """First measure an update's parts on this machine: physics, policy, GAE, gradient steps (compiles programs for
    them)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ReportArguments, arguments, "mjxppo report")
    from mjxppo.analysis.report import report
    from mjxppo.run.directory import found_run

    run = found_run(parsed.run)
    if parsed.split:
        from mjxppo.console import waiting
        from mjxppo.measure.train import measure_split

        with waiting("measuring how an update splits into parts"):
            measure_split(run)
    if parsed.best:
        from mjxppo.run.conclude import show_best

        show_best(run)
    print_json(report(run, parsed.out, parsed.best))
    return 0
