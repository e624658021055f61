"""``mjxppo sweep``: every combination of some settings, with every seed, in one program."""

from __future__ import annotations

import textwrap

from mjxppo.commands import helptext, train
from mjxppo.config.sweep import SWEPT
from mjxppo.errors import UserError

PROG = "mjxppo sweep"


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    fields = textwrap.fill(", ".join(f"ppo.{field}" for field in SWEPT), width=helptext.WIDTH)
    train.show_help_if_asked(
        arguments,
        PROG,
        "Trains a policy for every combination of the values with every seed, side by side in one program;\n"
        f"ends with a table of the returns in Gymnasium and learning curves. What can be varied:\n{fields}",
    )
    request = train.request_of(arguments, PROG)
    if not request.changes.get("grid") and not request.resume:
        raise UserError("grid: say what to vary, such as --grid ppo.learning_rate=1e-4,3e-4")
    return train.run(request)
