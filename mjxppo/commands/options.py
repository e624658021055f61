"""Options of a command from a dataclass: each field is an option, its docstring the help, its type the check.

Text on the command line becomes the same plain values that a YAML file gives, and ``config.values`` checks both.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import docstring_parser
import yaml

from mjxppo.config.values import parse_value
from mjxppo.errors import UserError, nearest

POSITIONAL = "positional"
"""Marks a field that is given by its place: ``Annotated[Path, POSITIONAL]``."""
REPEATED = "repeated"
"""Marks a tuple whose option is given once for each element: ``Annotated[tuple[Path, ...], REPEATED]``."""
_NUMBER = re.compile(r"-[\d.][\d_.eE+-]*")


class Option(NamedTuple):
    """One option, or one argument without a name."""

    name: str
    """The field's name, with its sections: ``ppo.num_envs``."""
    kind: Any
    """The field's type, without its annotations."""
    notes: tuple[Any, ...]
    """Its annotations: ranges, POSITIONAL, REPEATED."""
    text: str
    """What it means."""
    default: Any
    """``dataclasses.MISSING`` where it has to be given."""
    about: str = ""
    """What its section is about; empty for the command's own options."""

    @property
    def flag(self) -> str:
        """How it is written: ``--ppo.num-envs``."""
        return f"--{self.name}".replace("_", "-")

    @property
    def negated(self) -> str:
        """How a switch is switched off: ``--eval.no-video``."""
        section, _, name = self.flag.removeprefix("--").rpartition(".")
        return f"--{section}.no-{name}" if section else f"--no-{name}"

    @property
    def section(self) -> str:
        """The part of the configuration that it belongs to; empty for the command's own options."""
        return self.name.rpartition(".")[0]

    @property
    def is_mapping(self) -> bool:
        """Whether it is given element by element: ``--env-options.ctrl-cost-weight 0.1``."""
        return typing.get_origin(self.kind) is dict


def options_of(cls: type, default: Any = None, prefix: str = "", about: str = "") -> list[Option]:
    """The options of a dataclass, its own before those of its sections.

    ``default`` is an instance whose values replace the defaults of ``cls``. For a section, ``prefix`` (such as
    ``ppo.``) is put before the fields' names, and ``about`` is its description.
    """
    own: list[Option] = []
    nested: list[Option] = []
    texts = texts_of(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind, notes = without_notes(hints[field.name])
        value = _default_of(field, default)
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            nested += options_of(kind, value, f"{prefix}{field.name}.", texts.get(field.name, ""))
        else:
            own.append(Option(f"{prefix}{field.name}", kind, notes, texts.get(field.name, ""), value, about))
    return own + nested


def texts_of(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and of those that it extends, each as one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        for parameter in docstring_parser.parse_from_object(base).params:
            found[parameter.arg_name] = " ".join((parameter.description or "").split())
    return found


def read(options: Sequence[Option], arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """The plain values in the arguments by field; sections are mappings, as in a YAML file.

    Raises UserError where an argument is unknown or lacks its value; ranges and types are not checked here.
    """
    parsed, rest = parser_of(options, prog).parse_known_args(_normalized(arguments, options))
    if rest:
        word = rest[0].partition("=")[0]
        if not word.startswith("-"):
            raise UserError(f"{word!r}: {prog} takes no such argument (a switch takes no value); see {prog} --help")
        known = [flag for option in options for flag in (option.flag, option.negated)]
        suggestion = nearest(_negation_where_it_belongs(word), known) or "no option has a similar name"
        raise UserError(f"{word}: {prog} has no such option; {suggestion}; see {prog} --help")
    values: dict[str, Any] = {}
    for option in options:
        if option.name not in vars(parsed):
            continue
        *sections, name = option.name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = _value(option, getattr(parsed, option.name))
    return values


def _negation_where_it_belongs(word: str) -> str:
    """``--log.no-wandb`` for ``--no-log.wandb``; other words as they are."""
    section, dot, name = word.removeprefix("--no-").rpartition(".")
    return f"--{section}.no-{name}" if word.startswith("--no-") and dot else word


def parser_of(options: Sequence[Option], prog: str) -> argparse.ArgumentParser:
    """An argparse parser of the options; its result has only the options that are given."""
    parser = _Parser(prog=prog, add_help=False, allow_abbrev=False)
    add_arguments(parser, options)
    return parser


def add_arguments(
    parser: argparse.ArgumentParser, options: Sequence[Option], completer_of: Callable[[Option], Any] | None = None
) -> None:
    """Adds the options to a parser; ``completer_of`` returns argcomplete's completer for an option."""
    for option in options:
        several = typing.get_origin(option.kind) is tuple
        settings: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": option.text}
        if POSITIONAL in option.notes:
            required = option.default is dataclasses.MISSING
            nargs = "+" if several else None if required else "?"
            action = parser.add_argument(option.name, nargs=nargs, default=argparse.SUPPRESS)
        elif option.kind is bool:
            parser.add_argument(option.flag, action="store_true", **settings)
            action = parser.add_argument(option.negated, action="store_false", **settings)
        elif option.is_mapping or REPEATED in option.notes:
            action = parser.add_argument(option.flag, action="append", **settings)
        else:
            action = parser.add_argument(option.flag, nargs="+" if several else None, **settings)
        if completer_of is not None:
            action.completer = completer_of(option)  # type: ignore[attr-defined]  # argcomplete's own attribute


class _Parser(argparse.ArgumentParser):
    """Raises UserError instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def _normalized(arguments: Sequence[str], options: Sequence[Option]) -> list[str]:
    """The arguments as argparse understands them.

    ``--ppo.num_envs`` becomes ``--ppo.num-envs``, ``--env-options.x 1`` becomes ``--env-options=x=1``, and a negative
    number is joined to its option, because argparse would take ``-1e-3`` for an option.
    """
    mappings = [option.flag for option in options if option.is_mapping]
    words = list(arguments)
    result: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--" or not word.startswith("--"):
            result.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        mapping = next((name for name in mappings if flag.startswith(f"{name}.")), None)
        if mapping is not None:
            if not equals:
                value = words.pop(0) if words else ""
            if not value or value.startswith("--"):
                raise UserError(f"{flag}: takes a value, such as {flag} 0.05")
            result.append(f"{mapping}={flag.removeprefix(f'{mapping}.').replace('-', '_')}={value}")
        elif not equals and words and _NUMBER.fullmatch(words[0]):
            result.append(f"{flag}={words.pop(0)}")
        else:
            result.append(f"{flag}{equals}{value}")
    return result


def _value(option: Option, given: Any) -> Any:
    """The plain value of what argparse found: text, or a list of texts."""
    if isinstance(given, bool):
        return given
    if option.is_mapping:
        element = typing.get_args(option.kind)[1]
        pairs = [text.partition("=") for text in given]
        if not all(value for _, _, value in pairs):
            raise UserError(f"{option.name}: takes NAME=VALUE, such as {option.flag} ppo.gamma=0.9,0.99")
        pairs = [(name.replace("-", "_"), equals, value) for name, equals, value in pairs]
        _refuse_twice(option.name, [name for name, _, _ in pairs])
        return {name: _of_text(f"{option.name}.{name}", element, value) for name, _, value in pairs}
    if typing.get_origin(option.kind) is tuple:
        if len(given) == 1 and given[0].startswith("["):
            return _of_text(option.name, Any, given[0])
        kind, _ = without_notes(typing.get_args(option.kind)[0])
        return [_of_text(option.name, kind, text) for text in given]
    return _of_text(option.name, option.kind, given)


def _refuse_twice(field: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{field}: {name} is given twice")


def _of_text(name: str, kind: Any, text: str) -> Any:
    """The value of one text, as in a YAML file; the text itself for a field of text."""
    kind, optional = without_none(kind)
    if optional and text in ("None", "null"):
        return None
    if kind in (str, Path) or typing.get_origin(kind) is Literal:
        return text
    try:
        if typing.get_origin(kind) is tuple and "," in text and not text.startswith("["):
            return [parse_value(part) for part in text.split(",")]  # the values of one axis of a grid
        value = parse_value(text)
        return [value] if typing.get_origin(kind) is tuple and not isinstance(value, list) else value
    except yaml.YAMLError as error:
        raise UserError(f"{name}: {text!r} cannot be read as a value") from error


def _default_of(field: dataclasses.Field[Any], default: Any) -> Any:
    if default is not None and default is not dataclasses.MISSING:
        return getattr(default, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def without_notes(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations, and the annotations."""
    notes: tuple[Any, ...] = ()
    while typing.get_origin(hint) is Annotated:
        notes += hint.__metadata__
        hint = hint.__origin__
    return hint, notes


def without_none(kind: Any) -> tuple[Any, bool]:
    """The type in ``X | None`` without its annotations, and whether None is allowed."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:  # of Annotated[...] | None
        kinds = [part for part in typing.get_args(kind) if part is not types.NoneType]
        return without_notes(kinds[0])[0], True
    return without_notes(kind)[0], False
