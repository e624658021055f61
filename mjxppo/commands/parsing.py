"""A command's arguments as its dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mjxppo.commands import helptext
from mjxppo.commands.options import options_of, read
from mjxppo.config.values import build

T = TypeVar("T")


def parse(cls: type[T], arguments: Sequence[str], *, prog: str, description: str) -> T:
    """Reads the arguments into ``cls``; prints the help and exits where that is asked for.

    Raises:
        UserError: an argument is unknown, missing or wrong; one line that names it and the nearest right one.
    """
    options = options_of(cls)
    helptext.show_if_asked(options, arguments, prog=prog, description=description)
    return build(cls, read(options, arguments, prog), prog)
