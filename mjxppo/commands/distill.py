"""``mjxppo distill``: a student that imitates a teacher, in the teacher's own worlds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional, Suppress

from mjxppo.commands import train
from mjxppo.commands.parsing import parse
from mjxppo.config.schema import InitConfig
from mjxppo.errors import UserError


@dataclass(frozen=True)
class DistillArguments(train.TrainArguments):
    """What ``mjxppo train`` takes, on top of the teacher's configuration, and the teacher."""

    teacher: Positional[Path] = dataclasses.field(kw_only=True)
    """The teacher: a run directory, its ckpt/, or one step's folder."""
    env: Suppress[str] = ""
    # A student begins anew, and goes on as any run does.
    init: Suppress[InitConfig] = dataclasses.field(default_factory=InitConfig)
    init_from: Suppress[str | None] = None
    resume: Suppress[bool] = False


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if "-h" in arguments or "--help" in arguments:
        text = (
            "Trains a student that imitates a teacher, in its worlds and with its settings, except for those given "
            "here: the teacher's are the defaults, not the numbers shown. So a teacher that sees what only the "
            "simulation knows becomes a policy that does without it, for example with --policy.history 8. It goes on "
            "with mjxppo train --resume --run-dir DIR."
        )
        parse(DistillArguments, arguments, prog="mjxppo distill", description=text)
    if not arguments or arguments[0].startswith("-"):
        raise UserError("teacher: say first whom to imitate, such as mjxppo distill runs/teacher --policy.history 8")
    if "--resume" in arguments:
        raise UserError("resume: goes on with mjxppo train --resume --run-dir DIR, which knows the teacher")
    from mjxppo.run import distill

    return train.main(arguments[1:], base=distill.configuration(distill.load_teacher(arguments[0])))
