"""``mjxppo doctor``: checks of this machine's installation, with remedies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mjxppo.commands.parsing import parse
from mjxppo.console import print_json

if TYPE_CHECKING:
    from mjxppo.measure.doctor import Check


@dataclass(frozen=True)
class DoctorArguments:
    """Checks versions, devices, video and the cache."""

    json: bool = False
    """Print JSON, for programs."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code: 1 where something will not work."""
    parsed = parse(DoctorArguments, arguments, "mjxppo doctor")
    from mjxppo import xla
    from mjxppo.console import waiting
    from mjxppo.measure import doctor

    xla.platform()  # a platform that JAX_PLATFORMS names and that is not here is no fault of the installation
    with waiting("checking this machine"):
        checks = doctor.examine()
    result = doctor.to_dict(checks)
    if parsed.json:
        print_json(result)
    else:
        _print(checks)
    return 0 if result["ok"] else 1


def _print(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "optional": ("-", "yellow"), "problem": ("!!", "bold red")}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for check in checks:
        text = Text(check.found)
        if check.remedy:
            text.append(f"\n-> {check.remedy}", style=marks[check.status][1])
        table.add_row(Text(*marks[check.status]), check.name, text)
    Console(highlight=False).print(table)
