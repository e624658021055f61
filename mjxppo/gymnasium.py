"""Registers the tasks with Gymnasium when it is imported; imports neither JAX nor MuJoCo.

``gymnasium.make_vec("mjxppo.gymnasium:mjxppo/HalfCheetah-v5", num_envs=1024)`` imports it on the way; after
``import mjxppo.gymnasium`` the id is ``mjxppo/HalfCheetah-v5``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gymnasium.envs.registration import register
from gymnasium.error import Error

from mjxppo.envs.registry import TASKS, gymnasium_name


def make_one_world(task: str, **options: Any) -> Any:
    """A task that Gymnasium does not have, with one world in C MuJoCo.

    Raises Gymnasium's ``Error`` for all others: these are many worlds in one program.
    """
    place = TASKS[task].one_world
    if place is None:
        name = gymnasium_name(task)
        raise Error(f'{name} has many worlds; use gymnasium.make_vec("{name}", num_envs=1024), with num_envs=1 for one')
    module, _, environment = place.partition(":")
    return getattr(import_module(module), environment)(**options)


for _name, _entry in TASKS.items():
    register(
        gymnasium_name(_name),
        entry_point="mjxppo.gymnasium:make_one_world",
        vector_entry_point="mjxppo.interop.gymnasium:make_vec",
        max_episode_steps=_entry.max_episode_steps,
        kwargs={"task": _name},
    )
