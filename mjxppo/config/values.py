"""Reading, checking and writing configurations. Nothing here executes anything from a file."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pydantic
import yaml

from mjxppo.config.schema import Config
from mjxppo.errors import UserError, hint

T = TypeVar("T")

_RETIRED = (("ppo", "baseline", True),)
"""Section, field and value of fields that configurations of earlier runs hold."""
_MOST_VALUES = 100_000
"""More than any configuration holds; a few lines of YAML with aliases can stand for billions."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads 1e-3 as a number, which YAML 1.1 does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)$"), list("-+0123456789.")
)


def configs_dir() -> Path:
    """Where the shipped configurations are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises UserError where it is missing, unreadable, not YAML or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"config: there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"config: cannot read {path}: {error}") from error
    try:
        content = parse_value(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"config: {path} is not valid YAML{where}: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"config: {path} must hold a mapping of fields, such as 'env: hopper'")
    return content


def parse_value(text: str) -> Any:
    """One value as a YAML file would hold it; raises ``yaml.YAMLError`` where it is invalid or too large."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, IndexError, TypeError) as error:  # a number of thousands of digits, a 32nd of the month
        raise yaml.YAMLError(f"it holds a value that is none: {str(error)[:200]}") from error
    _refuse_bombs(value)
    return value


def _refuse_bombs(value: Any) -> None:
    """Refuses values that aliases make infinite, or larger than any configuration, once they are copied."""
    queue = [value]
    for _ in range(_MOST_VALUES):
        if not queue:
            return
        item = queue.pop()
        queue += item.values() if isinstance(item, dict) else item if isinstance(item, list | set) else ()
    raise yaml.YAMLError(f"it holds more than {_MOST_VALUES} values")


def read_named(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file, or in the shipped configuration of that name, such as half_cheetah_50m.

    Raises UserError where there is neither, and as ``read_yaml`` does.
    """
    path = Path(name)
    shipped = configs_dir() / f"{path}.yaml"
    if path.suffix or path.exists() or path.parent != Path("."):
        return read_yaml(path)
    if shipped.is_file():
        return read_yaml(shipped)
    known = sorted(file.stem for file in configs_dir().glob("*.yaml"))
    raise UserError(f"config: there is neither a file nor a shipped configuration {name}; {hint(str(path), known)}")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top; nested mappings are merged field by field."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same values by dotted names, such as ``ppo.gamma``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def from_dict(values: Mapping[str, Any], source: str = "config") -> Config:
    """The configuration that plain values describe, each name and type checked; ``make_config`` checks more.

    Raises UserError for an unknown field (the message names the nearest one) or a wrong type.
    """
    return build(Config, values, source)


def build(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """The dataclass ``cls`` from plain values by field name; sections are mappings.

    Raises UserError as ``from_dict``; its message begins with the field, or with ``source`` where it concerns none.
    """
    values = {name: plain(value) for name, value in values.items()}
    if cls is Config:
        values = dict(_without_retired(values))
    _check_names(values, cls, "")
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or source
        raise UserError(f"{where}: {_problem(first)}") from error


def _without_retired(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` without fields of earlier versions that had the value for what is done today."""
    for section, field, value in _RETIRED:
        own = values.get(section)
        if isinstance(own, Mapping) and field in own and own[field] is value:
            values = {**values, section: {name: x for name, x in own.items() if name != field}}
    return values


def plain(value: Any) -> Any:
    """The value as YAML and JSON have it: NumPy's and JAX's numbers and arrays, and paths, are taken as well."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else list(map(plain, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def options_of_type(cls: type[T], given: Mapping[str, Any], section: str) -> T:
    """The dataclass ``cls`` with the fields that ``given`` sets, each of its type, as ``build`` takes them.

    Raises UserError, which names the field in its ``section``, where one is of a wrong type.
    """
    types = get_type_hints(cls)
    values = {}
    for name, value in plain(given).items():
        try:
            values[name] = pydantic.TypeAdapter(types[name]).validate_python(value)
        except pydantic.ValidationError as error:
            raise UserError(f"{section}.{name}: {_problem(error.errors()[0])}") from error
        _check_finite(f"{section}.{name}", values[name])
    return cls(**values)


def _check_finite(name: str, value: Any) -> None:
    """Raises UserError where a number is NaN or infinite; an end of a range may be infinite."""
    ends = [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, float)]
    if any(map(math.isnan, ends)) or (isinstance(value, float) and math.isinf(value)):
        raise UserError(f"{name}: must be {'numbers' if isinstance(value, tuple) else 'a finite number'}, not {value}")


def whole(name: str, value: Any) -> int:
    """An integer, given as Python's or NumPy's or as a float without a fraction; else UserError, which names it."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise UserError(f"{name}: must be a whole number, not {value!r}")
    return int(value)


def _problem(error: Any) -> str:
    """One of pydantic's errors in words, with the value and, for a choice, the nearest right one."""
    message, given = error["msg"], error["input"]
    text = message[:1].lower() + message[1:]
    if error["type"] == "missing":
        return "must be given"
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{text}, not {given!r}; {hint(str(given), choices)}"
    return f"{text}, not {given!r}"


def _check_names(values: Mapping[str, Any], cls: type, prefix: str) -> None:
    """Refuses names that are no fields, and truth values where numbers belong (or the reverse)."""
    known = {field.name: field for field in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{prefix}{key}: no such field; {hint(str(key), known, prefix)}")
        section = known[key].default_factory
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{key}: must be a mapping of fields, not {value!r}")
            _check_names(value, section, f"{prefix}{key}.")
        # pydantic would take true for the number 1.
        default = known[key].default
        if isinstance(default, int | float) and isinstance(value, bool) != isinstance(default, bool):
            wanted = "true or false" if isinstance(default, bool) else "a number"
            raise UserError(f"{prefix}{key}: must be {wanted}, not {value!r}")
        if default is None and isinstance(value, bool):
            raise UserError(f"{prefix}{key}: takes no truth value, but is {value!r}")


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values, as YAML and JSON hold them."""

    def with_lists(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_lists(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [with_lists(item) for item in value]
        return value

    return with_lists(dataclasses.asdict(config))


def to_yaml(config: Config) -> str:
    """The configuration as YAML that ``read_yaml`` reads back to the same."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def defaults_for(env: str) -> dict[str, Any]:
    """The shipped configuration of a task, or of its library, or only its name where none is shipped."""
    path = configs_dir() / f"{env.partition(':')[0]}.yaml"
    return read_yaml(path) if path.is_file() else {"env": env}


def changed_settings(config: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the task's shipped configuration: (shipped, configured) by dotted name."""
    shipped = flatten(to_dict(from_dict(defaults_for(config.env))))
    values = flatten(to_dict(config))
    return {name: (shipped.get(name), value) for name, value in values.items() if shipped.get(name) != value}
