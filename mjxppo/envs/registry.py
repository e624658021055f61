"""Tasks by name."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any

from mjxppo.envs.environment import Environment
from mjxppo.envs.half_cheetah import HalfCheetah
from mjxppo.envs.hopper import Hopper
from mjxppo.envs.locomotion import Locomotion
from mjxppo.envs.walker2d import Walker2d
from mjxppo.errors import UserError
from mjxppo.physics import BackendName

TASKS: dict[str, type[Locomotion]] = {task.name: task for task in (Hopper, HalfCheetah, Walker2d)}
_ALIASES = {"halfcheetah": "half_cheetah", "cheetah": "half_cheetah", "walker": "walker2d"}
_LIBRARIES = ("brax", "playground", "gymnasium")
"""Other libraries, whose environments are called LIBRARY:NAME."""


def canonical_name(name: str) -> str:
    """The task's one name: case, hyphens, aliases and Gymnasium ids ("HalfCheetah-v5") are understood.

    Raises:
        UserError: there is no such task; the message names the nearest one.
    """
    if is_foreign(name):
        return name
    by_gym_id = {str(task.gym_id).lower(): task.name for task in TASKS.values()}
    key = by_gym_id.get(name.lower(), name.lower().replace("-", "_"))
    key = _ALIASES.get(key, key)
    if key in TASKS:
        return key
    near = difflib.get_close_matches(key, [*TASKS, *_ALIASES], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"env: there is no task {name!r}; {hint}tasks: {', '.join(TASKS)}, brax:NAME, playground:NAME, gymnasium:ID"
    )


def is_foreign(name: str) -> bool:
    """Whether a name is that of another library's environment."""
    return name.partition(":")[0] in _LIBRARIES and ":" in name


def is_on_host(name: str) -> bool:
    """Whether a name is that of one of Gymnasium's own environments, which are simulated on the host."""
    return name.startswith("gymnasium:")


def gym_id_of(name: str) -> str | None:
    """The Gymnasium environment that a task (by its canonical name) equals, or is; None where there is none."""
    if is_on_host(name):
        return name.partition(":")[2]
    task = TASKS.get(name)
    return task.gym_id if task else None


def make(env: str | Environment | Any, *, backend: BackendName = "auto", **options: Any) -> Environment:
    """Builds a batched environment.

    Args:
        env: "hopper", "half_cheetah", "walker2d"; "brax:NAME" or "playground:NAME" for an environment of Brax or
            MuJoCo Playground; "gymnasium:ID" for one of Gymnasium, simulated on the host; or an object: an
            ``Environment``, which is given back, or any with Brax's interface.
        backend: the physics backend, see ``physics.make``; only for the tasks of this package.
        options: the task's options under Gymnasium's names, such as ``ctrl_cost_weight``; see its ``Options``.

    Raises:
        UserError: unknown task or option, or an object that is no environment.
    """
    if isinstance(env, Environment):
        return env
    if not isinstance(env, str):
        from mjxppo.envs.foreign.brax import FromBrax

        return FromBrax(env, **options)
    name = canonical_name(env)
    if is_on_host(name):
        from mjxppo.envs.foreign.gymnasium import FromGymnasium

        return FromGymnasium(name.partition(":")[2], **options)
    if is_foreign(name):
        from mjxppo.envs.foreign import brax as from_brax

        library, _, foreign_name = name.partition(":")
        return getattr(from_brax, library)(foreign_name, **options)
    task = TASKS[name]
    known = [field.name for field in fields(task.Options)]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"env_options.{option}: {name} has no such option; {hint}")
    return task(task.Options(**options), backend)


def as_brax(env: str | Environment | Any, **options: Any) -> Any:
    """A task as a ``brax.envs.Env``: ``as_brax("hopper")``. Takes what ``make`` takes."""
    from mjxppo.envs.foreign.to_brax import ToBrax

    return ToBrax(make(env, **options))
