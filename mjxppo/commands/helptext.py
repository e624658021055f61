"""Help texts that fit on a screen: a line for most options, with default and range; a page for each section."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mjxppo.commands.options import POSITIONAL, REPEATED, Option, without_none, without_notes
from mjxppo.errors import UserError, hint

WIDTH = 100
EVERYTHING = "all"
_METAVARS = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}
_SANITY_LIMIT = 10_000
"""Larger upper bounds only exclude absurd values, and are not shown."""


def show_if_asked(
    options: Sequence[Option],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    sections: dict[str, str] | None = None,
) -> None:
    """Prints the help and exits where ``-h`` or ``--help`` is among the arguments.

    A word after ``--help`` names a section, or ``all``. ``sections`` has the description of each section by name;
    each has its own page. ``description`` says what ``prog`` does. Raises UserError where there is no such page.
    """
    place = next((i for i, word in enumerate(arguments) if word in ("-h", "--help")), None)
    if place is None:
        return
    sections = sections or {}
    word = arguments[place + 1] if place + 1 < len(arguments) else ""
    page = word if sections and word and not word.startswith("-") else None
    if page is not None and page not in (*sections, EVERYTHING):
        raise UserError(f"--help: there is no page {page!r}; {hint(page, [*sections, EVERYTHING])}")
    show(options, sections, page, prog=prog, description=description)
    raise SystemExit(0)


def show(options: Sequence[Option], sections: dict[str, str], page: str | None, *, prog: str, description: str) -> None:
    """Prints one page: the command's own options, a section's, or (``all``) everything."""
    width = min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
    console = Console(width=width, highlight=False)
    if page in (None, EVERYTHING):
        own = [option for option in options if not option.section]
        positional = [_flag(option) for option in own if POSITIONAL in option.notes]
        console.print(Text(f"usage: {' '.join([prog, *positional])} [OPTIONS]\n\n{description}\n"))
        console.print(_table(rows_of(own)))
    if page is None and sections:
        console.print(_index(options, sections))
        console.print(
            Text(f"\n{prog} --help SECTION explains the options of a section, --help {EVERYTHING} those of all.")
        )
    for name, text in sections.items():
        if page in (name, EVERYTHING):
            console.print(Text(f"\n{text}" if page == EVERYTHING else text, style="bold"))
            console.print(_table(rows_of(options, name)))


def rows_of(options: Sequence[Option], section: str = "") -> list[tuple[str, str, str]]:
    """Flag, meaning, and default with range of the options of one section; a section inside of it is one row."""
    rows: dict[str, tuple[str, str, str]] = {}
    for option in options:
        if option.section == section:
            rows[option.name] = (_flag(option), _text(option), facts_of(option))
        elif section and option.section.startswith(f"{section}."):
            inner = [o for o in options if o.section == option.section]
            fields = ", ".join(o.name.rpartition(".")[2] for o in inner)
            flag = f"--{option.section}.*".replace("_", "-")
            rows.setdefault(option.section, (flag, f"{option.about} Fields: {fields}.", ""))
    return list(rows.values())


def facts_of(option: Option) -> str:
    """An option's default and range, such as "default 0.99, 0 to 1"; empty where there is neither."""
    kind, notes = option.kind, option.notes
    if typing.get_origin(kind) is tuple:
        kind, notes = without_notes(typing.get_args(kind)[0])
    return ", ".join(filter(None, (_shown(option.default), _range(notes))))


def _flag(option: Option) -> str:
    several = typing.get_origin(option.kind) is tuple
    if POSITIONAL in option.notes:
        name = _metavar(option.kind)
        return f"{name}..." if several else name if option.default is dataclasses.MISSING else f"[{name}]"
    if option.kind is bool:
        switched_off = option.section or option.default is True
        return option.negated.replace("no-", "[no-]") if switched_off else option.flag
    if option.is_mapping:
        by_axis = typing.get_origin(typing.get_args(option.kind)[1]) is tuple
        return f"{option.flag} NAME=VALUE,..." if by_axis else f"{option.flag}.NAME VALUE"
    return f"{option.flag} {_metavar(option.kind)}" + (" ..." if several and REPEATED not in option.notes else "")


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        kind = without_notes(typing.get_args(kind)[0])[0]
    kind = without_none(kind)[0]
    if typing.get_origin(kind) is tuple:
        return f"{_metavar(kind)} ..."
    return "NAME" if typing.get_origin(kind) is Literal else _METAVARS.get(kind, "VALUE")


def _text(option: Option) -> str:
    choices = typing.get_args(option.kind) if typing.get_origin(option.kind) is Literal else ()
    if all(choice in option.text for choice in choices):
        return option.text
    return f"{option.text} One of {', '.join(choices)}."


def _shown(value: Any) -> str:
    """The default as it would be typed; empty where there is none, or where the text has to say what happens."""
    if value is dataclasses.MISSING or value in (None, (), False, {}):
        return "" if value != 0 or isinstance(value, bool) else "default 0"
    if value is True:
        return "default on"
    if isinstance(value, tuple):
        return f"default {' '.join(str(part) for part in value)}"
    if isinstance(value, int):
        return f"default {value:_}" if value >= 100_000 else f"default {value}"
    return f"default {value:g}" if isinstance(value, float) else f"default {value}"


def _range(notes: tuple[Any, ...]) -> str:
    """The range that a number's type allows, such as "0 to 1" or "> 0"."""
    low = next((f"{note.ge:g}" for note in notes if isinstance(note, Ge)), "")
    above = next((f"{note.gt:g}" for note in notes if isinstance(note, Gt)), "")
    high = next((f"{note.le:g}" for note in notes if isinstance(note, Le) and note.le <= _SANITY_LIMIT), "")
    below = next((f"{note.lt:g}" for note in notes if isinstance(note, Lt)), "")
    if low and high:
        return f"{low} to {high}"
    parts = [f">= {low}" if low else "", f"> {above}" if above else "", f"<= {high}" if high else ""]
    return ", ".join(filter(None, [*parts, f"< {below}" if below else ""]))


def _columns() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    return table


def _table(rows: Sequence[tuple[str, str, str]]) -> Table:
    table = _columns()
    for flag, text, facts in rows:
        meaning = Text(text)
        if facts:
            meaning.append(f" ({facts})", style="dim")
        table.add_row(Text(f"  {flag}"), meaning)
    return table


def _index(options: Sequence[Option], sections: dict[str, str]) -> Table:
    """A row for each section: what it is about, and how many options it has."""
    table = _columns()
    table.add_row("", "")
    for name, text in sections.items():
        count = len(rows_of(options, name))
        table.add_row(f"  --{name}.*", Text.assemble(text, (f" ({count} option{'s' * (count > 1)})", "dim")))
    return table
