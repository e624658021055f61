"""Layers of settings, from weakest to strongest: a task's shipped ones, inherited ones, files, single fields."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.values import defaults_for, merge, read_named


def changes_of(files: Iterable[str | os.PathLike[str]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in YAML files or shipped configurations, later ones on top, and ``fields`` (nested) on top of all.

    Raises UserError where there is no such file or shipped configuration, or it holds no mapping of fields.
    """
    changes: dict[str, Any] = {}
    for name in files:
        changes = merge(changes, read_named(name))
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
    return make_config(merge(base, changes) | {"env": env})
