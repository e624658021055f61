"""``mjxppo sweep``: every combination of some settings, with every seed, in one program."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import tyro

from mjxppo.commands import helptext, train
from mjxppo.commands.parsing import parse
from mjxppo.errors import UserError


@dataclass(frozen=True)
class SweepArguments(train.TrainArguments):
    """What ``mjxppo train`` takes, and what to vary."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # type: ignore[assignment]
    """A setting and the values to try, such as ppo.learning_rate=1e-4,3e-4; may be given several times."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if "-h" in arguments or "--help" in arguments:
        from mjxppo.config.sweep import SWEPT

        text = (
            "Trains a policy for every combination of the values with every seed, side by side in one program;\n"
            "ends with a table of the returns in Gymnasium and learning curves. What can be varied:\n"
        )
        fields = textwrap.fill(", ".join(f"ppo.{field}" for field in SWEPT), width=helptext.WIDTH)
        parse(SweepArguments, arguments, prog="mjxppo sweep", description=text + fields)
    grid, rest = _take_grid(arguments)
    if not grid and "--resume" not in rest:
        raise UserError("grid: say what to vary, such as --grid ppo.learning_rate=1e-4,3e-4")
    return train.main(rest, grid)


def _take_grid(arguments: list[str]) -> tuple[dict[str, list[float]], list[str]]:
    """The --grid options, and the other arguments."""
    grid: dict[str, list[float]] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if argument == "--grid":
            argument = f"--grid={queue.pop(0)}" if queue else "--grid="
        if argument.startswith("--grid="):
            name, values = _axis(argument.removeprefix("--grid="))
            if name in grid:
                raise UserError(f"grid: {name} is given twice")
            grid[name] = values
        else:
            rest.append(argument)
    return grid, rest


def _axis(text: str) -> tuple[str, list[float]]:
    name, equals, values = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.replace("-", "_"), [float(value) for value in values.split(",")]
    except ValueError as error:
        raise UserError(f"grid: must look like ppo.learning_rate=1e-4,3e-4, not {text!r}") from error
