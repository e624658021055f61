"""The tasks by name. Imports neither JAX nor MuJoCo, so that names can be checked without waiting for them.

Users add tasks of their own with ``register``. A name never imports code by itself, because names also come from files:
the modules that register tasks are those that the user imports, names in ``MJXPPO_TASKS`` or on the command line
(``mjxppo --tasks FILE train ...``), and those of installed packages with an entry point in the group ``mjxppo.tasks``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from mjxppo.errors import UserError, nearest

if TYPE_CHECKING:
    from mjxppo.envs.robot_task import RobotTask
    from mjxppo.envs.task import Task


class Entry(NamedTuple):
    """A task of this package."""

    gym_id: str | None
    """The id of the environment with Gymnasium's interface that it equals; None if there is none."""
    place: str
    """Its class, as MODULE:CLASS."""
    max_episode_steps: int = 1000
    """Its default time limit."""
    is_robot: bool = True
    """Whether a MuJoCo model is simulated, ``RobotTask``."""
    one_world: str | None = None
    """The class of that environment, as MODULE:CLASS, where it is this package's; None: it comes with Gymnasium."""

    @property
    def in_gymnasium(self) -> bool:
        """Whether Gymnasium itself has the environment that it equals."""
        return self.gym_id is not None and self.one_world is None

    @property
    def task(self) -> type[Task]:
        """The class, imported now; its ``Options`` hold the defaults of its options."""
        module, _, name = self.place.partition(":")
        task: type[Task] = getattr(importlib.import_module(module), name)
        return task

    @property
    def robot(self) -> type[RobotTask]:
        """``task`` of an entry that ``is_robot``."""
        assert self.is_robot
        return self.task  # type: ignore[return-value]


TASKS: dict[str, Entry] = {
    "hopper": Entry("Hopper-v5", "mjxppo.envs.hopper:Hopper"),
    "half_cheetah": Entry("HalfCheetah-v5", "mjxppo.envs.half_cheetah:HalfCheetah"),
    "walker2d": Entry("Walker2d-v5", "mjxppo.envs.walker2d:Walker2d"),
    "ant": Entry("Ant-v5", "mjxppo.envs.ant:Ant"),
    "humanoid": Entry("Humanoid-v5", "mjxppo.envs.humanoid:Humanoid"),
    "humanoid_standup": Entry("HumanoidStandup-v5", "mjxppo.envs.humanoid:HumanoidStandup"),
    "swimmer": Entry("Swimmer-v5", "mjxppo.envs.swimmer:Swimmer"),
    "reacher": Entry("Reacher-v5", "mjxppo.envs.reacher:Reacher", 50),
    "inverted_pendulum": Entry("InvertedPendulum-v5", "mjxppo.envs.pendulum:InvertedPendulum"),
    "inverted_double_pendulum": Entry("InvertedDoublePendulum-v5", "mjxppo.envs.pendulum:InvertedDoublePendulum"),
    "cartpole": Entry("CartPole-v1", "mjxppo.envs.cartpole:CartPole", 500, is_robot=False),
    "quadruped": Entry(
        "mjxppo/Quadruped-v0", "mjxppo.envs.quadruped:Quadruped", one_world="mjxppo.interop.quadruped:QuadrupedEnv"
    ),
    "gridworld": Entry(None, "mjxppo.envs.gridworld:Gridworld", 50, is_robot=False),
}
"""This package's tasks by canonical name."""

NAMESPACE = "mjxppo/"
"""What the ids begin with under which ``mjxppo.gymnasium`` registers the tasks."""
GYMNASIUM = "gymnasium"
_ALIASES = {"halfcheetah": "half_cheetah", "cheetah": "half_cheetah", "walker": "walker2d"}
_LIBRARIES = ("brax", "playground", GYMNASIUM)
"""Other libraries, whose environments are named LIBRARY:NAME."""


MODULES = "MJXPPO_TASKS"
"""Environment variable with the modules or files that register tasks, separated as in PATH."""
ENTRY_POINTS = "mjxppo.tasks"
"""Group of the entry points by which installed packages offer tasks: ``NAME = "module:function_or_class"``."""


class Registered(NamedTuple):
    """A user's task."""

    make: Callable[..., Any]
    """Makes the task from the options in ``env_options``."""
    gym_id: str | None
    """The Gymnasium environment that it equals, in which it is evaluated and filmed; None if there is none."""


_registered: dict[str, Registered] = {}


def register(name: str, make: Callable[..., Any], gym_id: str | None = None) -> None:
    """Gives a task of your own a name, under which it can be trained, evaluated and filmed like those of this package.

    Args:
        name: letters, digits, "_" and "-"; upper and lower case are the same. A second call replaces the first.
        make: a ``Task`` class or a function; called with the options in ``env_options``. It returns a ``Task``, an
            ``Environment``, or an object with Brax's interface.
        gym_id: the id of the Gymnasium environment that the task equals: the policy is evaluated and filmed in it.

    Raises:
        UserError: the name cannot be used, or is that of one of this package's tasks.
    """
    key = _key(name)
    if not re.fullmatch(r"[a-z0-9_]+", key):
        raise UserError(f"register: {name!r} is no name; use letters, digits, _ and -")
    if key in TASKS:
        raise UserError(f"register: {name!r} is a task of this package; choose another name")
    if not callable(make):
        raise UserError(f"register: {name!r} needs a Task class or a function that makes the task, not {make!r}")
    _registered[key] = Registered(make, gym_id)


def registered() -> dict[str, Registered]:
    """The users' tasks by name; imports the modules that register them.

    Raises UserError where one of these cannot be imported.
    """
    for place in filter(None, os.environ.get(MODULES, "").split(os.pathsep)):
        import_place(place, "tasks")
    _add_entry_points()
    return _registered


@functools.cache
def import_place(place: str, field: str) -> ModuleType:
    """A user's module by its name, or from a file; raises UserError, which begins with ``field``, where it fails."""
    try:
        if not place.endswith(".py"):
            if "" not in sys.path:  # as Python itself looks in the working directory
                sys.path.insert(0, "")
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(Path(place).stem, module)
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # a user's module may fail in any way
        raise UserError(f"{field}: cannot import {place}: {type(error).__name__}: {error}") from error


@functools.cache
def _add_entry_points() -> None:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if _key(entry.name) not in _registered:
            # Loaded when it is used: importing a package of tasks may take seconds.
            register(entry.name, lambda entry=entry, **options: entry.load()(**options))


def _key(name: str) -> str:
    return name.lower().replace("-", "_")


def canonical_name(name: str) -> str:
    """The canonical name of a task. Any case, hyphens, aliases and Gymnasium ids ("HalfCheetah-v5") are accepted.

    Raises:
        UserError: there is no such task; the message names the nearest one.
    """
    if is_foreign(name):
        return name
    by_gym_id = {entry.gym_id.lower(): task for task, entry in TASKS.items() if entry.gym_id}
    key = by_gym_id.get(name.lower(), _key(name))
    key = _ALIASES.get(key, key)
    if key in TASKS or key in registered():
        return key
    known = f"tasks: {', '.join([*TASKS, *registered()])}, brax:NAME, playground:NAME, gymnasium:ID"
    suggestion = nearest(key, [*TASKS, *_ALIASES, *registered()])
    raise UserError(f"env: there is no task {name!r}; {' '.join(filter(None, (suggestion, known)))}")


def is_foreign(name: str) -> bool:
    """Whether a name is that of another library's environment, LIBRARY:NAME."""
    return name.partition(":")[0] in _LIBRARIES and ":" in name


def gym_id_of(name: str) -> str | None:
    """The id of the Gymnasium environment that a task (by its canonical name) is or equals; None if there is none."""
    library, _, gym_id = name.partition(":")
    if library == GYMNASIUM and gym_id:
        return gym_id
    if name in TASKS:
        return TASKS[name].gym_id
    own = registered_task(name)
    return own.gym_id if own is not None else None


def gymnasium_name(task: str) -> str:
    """The id under which ``mjxppo.gymnasium`` registers a task of this package."""
    gym_id = TASKS[task].gym_id or f"{task.title()}-v0"
    return gym_id if gym_id.startswith(NAMESPACE) else NAMESPACE + gym_id


def registered_task(name: str) -> Registered | None:
    """A user's task by its canonical name; None for all others."""
    return None if name in TASKS or is_foreign(name) else registered().get(name)
