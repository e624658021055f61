"""Help that fits a screen: one line for most options, with its default and range; long groups on pages of their own.

tyro's own help of ``mjxppo train`` is some 150 lines, and knows nothing of the ranges in the types.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import docstring_parser
import tyro
from annotated_types import Ge, Gt, Le, Lt
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

WIDTH = 100
EVERYTHING = "all"
_POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]
_APPEND = tyro.conf.UseAppendAction[tuple[int, ...]].__metadata__[0]  # type: ignore[attr-defined]
_SUPPRESS = tyro.conf.Suppress[int].__metadata__[0]  # type: ignore[attr-defined]
_METAVARS = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}
_SANITY_LIMIT = 10_000
"""Upper bounds beyond it only keep nonsense out, and are not worth a place on the screen."""


class Option(NamedTuple):
    """One option as the help shows it."""

    flag: str
    text: str
    facts: str
    """Default and range."""
    positional: bool
    required: bool


class Group(NamedTuple):
    """The options of one section of a configuration."""

    name: str
    """As in --NAME.FIELD; empty for the command's own options."""
    text: str
    options: list[Option]


def groups_of(cls: type, default: Any = None) -> list[Group]:
    """The options of a dataclass of arguments, the command's own first."""
    own = Group("", "", [])
    nested: list[Group] = []
    hints = typing.get_type_hints(cls, include_extras=True)
    texts = texts_of(cls)
    for field in dataclasses.fields(cls):
        kind, notes = _split(hints[field.name])
        if _SUPPRESS in notes or kind is dict or typing.get_origin(kind) is dict:
            continue
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            summary = docstring_parser.parse(kind.__doc__ or "").short_description or ""
            nested.append(Group(field.name, summary, _options(kind, _default_of(field, default), f"{field.name}.")))
        else:
            own.options.append(_option(field, hints[field.name], texts.get(field.name, ""), default))
    return [own, *nested]


def _options(cls: type, default: Any, prefix: str) -> list[Option]:
    hints, texts = typing.get_type_hints(cls, include_extras=True), texts_of(cls)
    shown = [field for field in dataclasses.fields(cls) if not _hidden(hints[field.name])]
    return [_option(field, hints[field.name], texts.get(field.name, ""), default, prefix) for field in shown]


def _hidden(hint: Any) -> bool:
    kind, notes = _split(hint)
    return _SUPPRESS in notes or dataclasses.is_dataclass(kind)


def texts_of(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        for parameter in docstring_parser.parse_from_object(base).params:
            found[parameter.arg_name] = " ".join((parameter.description or "").split())
    return found


def _default_of(field: dataclasses.Field[Any], default: Any) -> Any:
    if default is not None:
        return getattr(default, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type without its annotations, and these."""
    notes: tuple[Any, ...] = ()
    while typing.get_origin(hint) is typing.Annotated:
        notes += hint.__metadata__
        hint = hint.__origin__
    return hint, notes


def _option(field: dataclasses.Field[Any], hint: Any, text: str, default: Any, prefix: str = "") -> Option:
    kind, notes = _split(hint)
    name, positional = field.name, _POSITIONAL in notes
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    value = None if required else _default_of(field, default)
    flag = f"--{prefix}{name}".replace("_", "-")
    if positional:
        flag = _metavar(kind)
    elif kind is bool:
        if tyro.conf.FlagCreatePairsOff not in notes:
            flag = f"--{prefix}[no-]{name}".replace("_", "-")
    else:
        metavar = _metavar(kind)
        flag += f" {metavar.removesuffix(' ...') if _APPEND in notes else metavar}"
    if typing.get_origin(kind) is Literal and not all(choice in text for choice in typing.get_args(kind)):
        text += f" One of {', '.join(typing.get_args(kind))}."
    return Option(flag, text, ", ".join(filter(None, (_shown(value), _range(kind, notes)))), positional, required)


def _metavar(kind: Any) -> str:
    kind, _ = _split(kind)
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        return f"{_metavar(typing.get_args(kind)[0])} ..."
    if typing.get_origin(kind) is Literal:
        return "NAME"
    return _METAVARS.get(kind, "VALUE")


def _shown(value: Any) -> str:
    """The default as it would be typed; empty where there is none, or where the text has to say what happens."""
    if value is None or value == () or value is False:
        return ""
    if value is True:
        return "default on"
    if isinstance(value, tuple):
        return f"default {' '.join(str(part) for part in value)}"
    if isinstance(value, int):
        return f"default {value:_}" if value >= 100_000 else f"default {value}"
    return f"default {value:g}" if isinstance(value, float) else f"default {value}"


def _range(kind: Any, notes: tuple[Any, ...]) -> str:
    """The range that a number's type allows, such as "0 to 1" or "> 0"."""
    if typing.get_origin(kind) is tuple:
        kind, notes = _split(typing.get_args(kind)[0])
    low = next((f"{note.ge:g}" for note in notes if isinstance(note, Ge)), "")
    above = next((f"{note.gt:g}" for note in notes if isinstance(note, Gt)), "")
    high = next((f"{note.le:g}" for note in notes if isinstance(note, Le) and note.le <= _SANITY_LIMIT), "")
    below = next((f"{note.lt:g}" for note in notes if isinstance(note, Lt)), "")
    if low and high:
        return f"{low} to {high}"
    parts = [f">= {low}" if low else "", f"> {above}" if above else "", f"<= {high}" if high else ""]
    return ", ".join(filter(None, [*parts, f"< {below}" if below else ""]))


def show(cls: type, prog: str, description: str, default: Any = None, page: str | None = None) -> None:
    """Prints the help of a command.

    Args:
        cls: the dataclass of its arguments.
        prog: the command.
        description: what it does, in a sentence.
        default: where the defaults are taken from, instead of ``cls``.
        page: a group's name, or "all"; by default the command's own options and the names of the groups.
    """
    own, *nested = groups_of(cls, default)
    console = Console(width=WIDTH, highlight=False)
    if page in (None, EVERYTHING):
        given = [
            option.flag if option.required else f"[{option.flag}]"
            for option in own.options
            if option.required or option.positional
        ]
        console.print(Text(f"usage: {' '.join([prog, *given])} [OPTIONS]\n\n{description}\n"))
        console.print(_table(own.options))
    if page is None and nested:
        console.print(_index(prog, nested))
    for group in nested:
        if page in (group.name, EVERYTHING):
            console.print(Text(f"\n{group.text}" if page == EVERYTHING else group.text, style="bold"))
            console.print(_table(group.options))


def _grid() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    return table


def _table(options: list[Option]) -> Table:
    table = _grid()
    for option in options:
        text = Text(option.text)
        if option.facts:
            text.append(f" ({option.facts})", style="dim")
        table.add_row(f"  {option.flag}".replace("[", "\\["), text)
    return table


def _index(prog: str, groups: list[Group]) -> RenderableType:
    """Where the options of the groups are explained."""
    table = _grid()
    table.add_row("", "")
    for group in groups:
        count = f"{len(group.options)} option{'s' if len(group.options) > 1 else ''}"
        table.add_row(f"  --{group.name}.*", Text.assemble(group.text, (f" ({count})", "dim")))
    names = "|".join([*(group.name for group in groups), EVERYTHING])
    return Stack(table, Text(f"\n{prog} --help {names} explains them."))
