"""A command's arguments as its dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypeVar

from mjxppo.commands import helptext
from mjxppo.commands.options import options_of, read
from mjxppo.config.values import build

T = TypeVar("T")


def parse(cls: type[T], arguments: Sequence[str], prog: str) -> T:
    """Reads a command's arguments into ``cls``; with ``-h`` or ``--help`` prints the help and exits.

    The docstring of ``cls`` says in the help what the command ``prog`` does. Raises UserError, which names the argument
    and the nearest right one, where one is unknown, missing or wrong.
    """
    options = options_of(cls)
    helptext.show_if_asked(options, arguments, prog=prog, description=inspect.getdoc(cls) or "")
    return build(cls, read(options, arguments, prog), prog)
