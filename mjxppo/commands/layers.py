"""The layers below the --FIELD options: the files that --config and --set-from name, and --env-options.NAME."""

from __future__ import annotations

from typing import Any

import yaml

from mjxppo.config.values import merge, parse_value, read_named
from mjxppo.errors import UserError

_ENV_OPTIONS = "--env-options."


def value_of(arguments: list[str], name: str) -> str | None:
    """The last value of --NAME VALUE or --NAME=VALUE, before the full parse."""
    values = values_of(arguments, name)
    return values[-1] if values else None


def values_of(arguments: list[str], name: str) -> list[str]:
    """All values of --NAME VALUE or --NAME=VALUE, in their order."""
    values = []
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option.startswith("--") and option.replace("_", "-") == f"--{name}":
            if equals:
                values.append(value)
            elif i + 1 < len(arguments):
                values.append(arguments[i + 1])
    return values


def from_files(arguments: list[str]) -> dict[str, Any]:
    """The fields in the file of --config with those of each --set-from on top, the last one winning.

    Raises:
        UserError: there is no such file, nor a shipped configuration of that name, or it holds no configuration.
    """
    changes: dict[str, Any] = {}
    for name in [*values_of(arguments, "config")[-1:], *values_of(arguments, "set-from")]:
        changes = merge(changes, read_named(name))
    return changes


def take_env_options(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Splits --env-options.NAME VALUE, whose names depend on the task, from the other arguments.

    Returns:
        The other arguments, and the task's options with values as YAML reads them: 0.5, true, [0.8, 2.0].

    Raises:
        UserError: a value is missing or cannot be read.
    """
    rest, options = [], {}
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if not option.replace("_", "-").startswith(_ENV_OPTIONS):
            rest.append(word)
            continue
        name = option[len(_ENV_OPTIONS) :].replace("-", "_")
        if not equals:
            value = next(words, "")
        if not value or not name:
            raise UserError(f"{option}: takes a value, such as {_ENV_OPTIONS}ctrl-cost-weight 0.05")
        try:
            options[name] = parse_value(value)
        except yaml.YAMLError as error:
            raise UserError(f"env_options.{name}: {value!r} cannot be read as a value") from error
    return rest, options
