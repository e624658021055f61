"""Command lines with tyro, whose error panels become one line."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mjxppo.commands import helptext
from mjxppo.errors import UserError

T = TypeVar("T")
_MAX_WHOLE = 2**63


def parse(cls: type[T], arguments: Sequence[str], *, prog: str, description: str, default: T | None = None) -> T:
    """Parses ``arguments`` into ``cls``; prints help and exits where asked to.

    Raises:
        UserError: the arguments are wrong; the message is tyro's, with its suggestion.
    """
    if "-h" in arguments or "--help" in arguments:
        helptext.show(cls, prog, description, default, _page(cls, arguments))
        raise SystemExit(0)
    options: dict[str, Any] = {"registry": _registry()} | ({} if default is None else {"default": default})
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel), _wide_terminal():
            return tyro.cli(cls, args=list(arguments), prog=prog, description=description, **options)
    except SystemExit:
        summary = _summary(panel.getvalue())
        raise UserError(summary if summary.endswith("?") else f"{summary}; see {prog} --help") from None


def _page(cls: type, arguments: Sequence[str]) -> str | None:
    """The page of help that is asked for: what follows --help."""
    pages = [*(group.name for group in helptext.groups_of(cls)[1:]), helptext.EVERYTHING]
    position = next(i for i, argument in enumerate(arguments) if argument in ("-h", "--help"))
    following = arguments[position + 1] if position + 1 < len(arguments) else ""
    if not following or following.startswith("-"):
        return None
    if following not in pages:
        raise UserError(f"--help: there is no page {following!r}; {nearest(following, pages)}")
    return following


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint for a word that is none of ``known``: the nearest, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


@functools.cache
def _registry() -> ConstructorRegistry:
    """Tyro's way of reading values, with whole numbers as people write them: 1_000_000 or 1e6."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def whole_number(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
        if kind.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: _whole(words[0]),
            is_instance=lambda value: isinstance(value, int),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        pass
    try:
        value = Decimal(word)
        if value == value.to_integral_value() and abs(value) < _MAX_WHOLE:
            return int(value)
    except ArithmeticError:
        pass
    raise ValueError(f"{word!r} is not a whole number")


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
            return f"{message}; did you mean {following}?"
        if line.startswith("Missing from"):
            return f"missing: {following.split()[0]}"
    choice = re.search(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", message)
    if choice:
        word, option, choices = choice.groups()
        known = re.findall(r"'([^']*)'", choices)
        return f"{option}: {word!r} is not possible; {nearest(word, known)}"
    return message
