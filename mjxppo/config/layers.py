"""Layers of settings, weakest first: a task's shipped ones, inherited ones, those of the algorithm, files, fields."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from mjxppo.config.check import make_config
from mjxppo.config.schema import AlgorithmName, Config
from mjxppo.config.values import configs_dir, defaults_for, merge, read_named, read_yaml


def changes_of(files: Iterable[str | os.PathLike[str]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in YAML files or shipped configurations, later ones on top, and ``fields`` (nested) on top of all.

    Where ``fields`` name another algorithm than the files, its settings replace theirs.

    Raises UserError where there is no such file or shipped configuration, or it holds no mapping of fields.
    """
    changes: dict[str, Any] = {}
    for name in files:
        changes = merge(changes, read_named(name))
    wanted = fields.get("algorithm")
    if wanted not in (None, changes.get("algorithm")):
        changes = merge(changes, settings_of_algorithm(wanted))
    return merge(changes, fields)


def resolve(env: str, changes: Mapping[str, Any], inherited: Mapping[str, Any] | None = None) -> Config:
    """The checked configuration of a new run.

    Args:
        env: the task's canonical name.
        changes: files and single fields, see ``changes_of``.
        inherited: fields taken over from a pretrained policy or a teacher; they replace the task's shipped ones.

    Raises:
        UserError: a field is unknown or wrong.
    """
    base = merge(defaults_for(env), inherited or {})
    base = merge(base, settings_of_algorithm(changes.get("algorithm", base.get("algorithm"))))
    return make_config(merge(base, changes) | {"env": env})


def settings_of_algorithm(name: Any) -> dict[str, Any]:
    """The fields that an algorithm sets, on top of the task's; of ppo, and of no known algorithm, there are none."""
    path = configs_dir() / "algorithms" / f"{name}.yaml"
    return {"algorithm": name} | read_yaml(path) if name in get_args(AlgorithmName) and path.is_file() else {}
