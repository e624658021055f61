"""The tasks by name. Imports neither JAX nor MuJoCo, so that names can be checked without waiting for them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from mjxppo.errors import UserError, nearest

if TYPE_CHECKING:
    from mjxppo.envs.locomotion import Locomotion


class Entry(NamedTuple):
    """A task of this package."""

    gym_id: str
    """The Gymnasium environment that it equals."""
    place: str
    """Its class, as MODULE:CLASS."""

    @property
    def task(self) -> type[Locomotion]:
        """The class, imported now; its ``Options`` hold the defaults of frame skip, model file and more."""
        module, _, name = self.place.partition(":")
        task: type[Locomotion] = getattr(importlib.import_module(module), name)
        return task


TASKS: dict[str, Entry] = {
    "hopper": Entry("Hopper-v5", "mjxppo.envs.hopper:Hopper"),
    "half_cheetah": Entry("HalfCheetah-v5", "mjxppo.envs.half_cheetah:HalfCheetah"),
    "walker2d": Entry("Walker2d-v5", "mjxppo.envs.walker2d:Walker2d"),
}
"""This package's tasks by canonical name."""

GYMNASIUM = "gymnasium"
_ALIASES = {"halfcheetah": "half_cheetah", "cheetah": "half_cheetah", "walker": "walker2d"}
_LIBRARIES = ("brax", "playground", GYMNASIUM)
"""Other libraries, whose environments are named LIBRARY:NAME."""


def canonical_name(name: str) -> str:
    """The canonical name of a task. Any case, hyphens, aliases and Gymnasium ids ("HalfCheetah-v5") are accepted.

    Raises:
        UserError: there is no such task; the message names the nearest one.
    """
    if is_foreign(name):
        return name
    by_gym_id = {entry.gym_id.lower(): task for task, entry in TASKS.items()}
    key = by_gym_id.get(name.lower(), name.lower().replace("-", "_"))
    key = _ALIASES.get(key, key)
    if key in TASKS:
        return key
    known = f"tasks: {', '.join(TASKS)}, brax:NAME, playground:NAME, gymnasium:ID"
    suggestion = nearest(key, [*TASKS, *_ALIASES])
    raise UserError(f"env: there is no task {name!r}; {' '.join(filter(None, (suggestion, known)))}")


def is_foreign(name: str) -> bool:
    """Whether a name is that of another library's environment, LIBRARY:NAME."""
    return name.partition(":")[0] in _LIBRARIES and ":" in name


def gym_id_of(name: str) -> str | None:
    """The id of the Gymnasium environment that a task (by its canonical name) is or equals; None if there is none."""
    library, _, gym_id = name.partition(":")
    if library == GYMNASIUM and gym_id:
        return gym_id
    return TASKS[name].gym_id if name in TASKS else None
