"""Command lines with tyro, whose error panels become one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

from mjxppo.errors import UserError

T = TypeVar("T")


def parse(cls: type[T], arguments: Sequence[str], *, prog: str, description: str, default: T | None = None) -> T:
    """Parses ``arguments`` into ``cls``; prints help and exits where asked to.

    Raises:
        UserError: the arguments are wrong; the message is tyro's, with its suggestion.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    if "-h" in arguments or "--help" in arguments:
        return tyro.cli(cls, args=["--help"], prog=prog, description=description, **options)
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel), _wide_terminal():
            return tyro.cli(cls, args=list(arguments), prog=prog, description=description, **options)
    except SystemExit:
        raise UserError(_summary(panel.getvalue())) from None


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keeps tyro from breaking the lines of an error panel, which would cut words in two."""
    previous = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "2000"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = previous


def _summary(panel: str) -> str:
    """The message in an error panel and its first suggestion, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", panel)
    lines = [line.strip("│╭╮╰╯ \t") for line in plain.splitlines()]
    lines = [line for line in lines if line.strip("-─")]
    if len(lines) < 2:
        return "the arguments cannot be parsed"
    message = lines[1]  # the first line is the panel's title
    for line, following in itertools.pairwise(lines):
        if line.startswith("Perhaps you meant"):
            return f"{message}; perhaps you meant {following}"
        if line.startswith("Missing from"):
            return f"missing: {following.split()[0]}"
    return message
