"""``mjxppo replay``: computes a run's failed update again from its dump."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class ReplayArguments:
    """Computes the update in which a run became non-finite again."""

    path: Annotated[Path, POSITIONAL]
    """A run that stopped because of non-finite numbers, or its failure/ directory."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code: 1 where the failure does not happen again."""
    parsed = parse(ReplayArguments, arguments, "mjxppo replay")
    from mjxppo import xla
    from mjxppo.run import failure

    xla.enable_compilation_cache()
    result = failure.replay(parsed.path)
    print_json(result)
    return 0 if result["reproduced"] else 1
