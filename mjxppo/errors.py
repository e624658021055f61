"""A user's mistake as one line, and the nearest right name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right: a wrong option, file, model or environment.

    Its message is one line that names the field or file and says what would be right. The command line prints it and
    ends with exit code 2.
    """


def hint(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest of the known words as a question, or all of them: "did you mean hopper?", "known: a, b".

    ``word`` is what the user wrote; ``prefix``, such as ``ppo.``, is put before the nearest word.
    """
    choices = list(known)
    return nearest(word, choices, prefix) or f"known: {', '.join(choices)}"


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest of the known words as a question, as in ``hint``; empty where none is similar."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else ""
