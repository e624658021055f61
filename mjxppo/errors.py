"""The one exception that the command line turns into a single line and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right: a bad option, file, model or environment.

    Its message is one line that names the field or file and says what would be right.
    """


def hint(word: str, known: Iterable[str]) -> str:
    """The nearest of the known words as a question, or all of them: "did you mean hopper?", "known: a, b"."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(choices)}"
