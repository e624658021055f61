"""``mjxppo study``: compares variants of the settings, with several seeds each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class StudyArguments:
    """Trains every variant of a study, draws curves and writes a table."""

    name: Annotated[str, POSITIONAL]
    """A shipped study (configs/studies/NAME.yaml), or a YAML file like those."""
    out: Path | None = None
    """Directory of its runs, plots and tables; default: runs/studies/NAME. A study started there before continues."""
    jobs: int = 1
    """Runs trained at the same time; more than one is faster for runs too small to use the whole machine."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(StudyArguments, arguments, "mjxppo study")
    from mjxppo.analysis import study
    from mjxppo.console import say

    path = study.find_study(parsed.name)
    directory = parsed.out or Path("runs/studies") / path.stem
    read = study.read_study(path)
    content = study.run_study(read, directory, parsed.jobs)
    say(study.to_markdown(read, content))
    print_json(content)
    return 0
