"""``mjxppo distill``: a student that imitates a teacher, in the teacher's own worlds."""

from __future__ import annotations

from mjxppo.commands import train
from mjxppo.errors import UserError

PROG = "mjxppo distill"


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    train.show_help_if_asked(
        arguments,
        f"{PROG} TEACHER",
        "Trains a student that imitates a teacher, in its worlds and with its settings, except for those given here: "
        "the teacher's are the defaults, not the numbers shown. So a teacher that sees what only the simulation knows "
        "becomes a policy that does without it, for example with --policy.history 8. TEACHER is a run directory, its "
        "ckpt/, or one step's folder. The run goes on with mjxppo train --resume --run-dir DIR.",
    )
    if not arguments or arguments[0].startswith("-"):
        raise UserError("teacher: name the teacher first, such as mjxppo distill runs/teacher --policy.history 8")
    if "--resume" in arguments:
        raise UserError("resume: goes on with mjxppo train --resume --run-dir DIR, which knows the teacher")
    return train.run(train.request_of(arguments[1:], PROG, {"distill": {"teacher": arguments[0]}}))
