"""``mjxppo watch``: follows a run in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.errors import UserError


@dataclass(frozen=True)
class WatchArguments:
    """Follows a run until it ends."""

    run: Annotated[Path, POSITIONAL] = Path("runs/latest")
    """A run directory; default: the newest run."""
    once: bool = False
    """Print the present state of the run and exit."""
    interval: Annotated[float, Ge(0.1)] = 1.0
    """Seconds between two readings of the files."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code: 1 where the run stopped before its budget."""
    parsed = parse(WatchArguments, arguments, "mjxppo watch")
    if not parsed.interval >= 0.1:
        raise UserError(f"interval: must be at least 0.1 s, not {parsed.interval}")
    from rich.console import Console

    from mjxppo.analysis.watch import watch
    from mjxppo.run.directory import found_run

    state = watch(found_run(parsed.run), Console(highlight=False), once=parsed.once, interval_s=parsed.interval)
    return 1 if state == "stopped" and not parsed.once else 0
