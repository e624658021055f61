"""Registers the tasks with Gymnasium as vector environments when it is imported; imports neither JAX nor MuJoCo.

``gymnasium.make_vec("mjxppo.gymnasium:mjxppo/HalfCheetah-v5", num_envs=1024)`` imports it on the way; after
``import mjxppo.gymnasium`` the id is ``mjxppo/HalfCheetah-v5``.
"""

from __future__ import annotations

from typing import Any, NoReturn

from gymnasium.envs.registration import register
from gymnasium.error import Error

from mjxppo.envs.registry import TASKS


def refuse_one_world(task: str, **options: Any) -> NoReturn:
    """Raises the error of ``gymnasium.make``: the tasks are many worlds in one program."""
    name = f"mjxppo/{TASKS[task].gym_id or task.title() + '-v0'}"
    raise Error(f'{name} has many worlds; use gymnasium.make_vec("{name}", num_envs=1024), with num_envs=1 for one')


for _name, _entry in TASKS.items():
    register(
        f"mjxppo/{_entry.gym_id or _name.title() + '-v0'}",
        entry_point="mjxppo.gymnasium:refuse_one_world",
        vector_entry_point="mjxppo.interop.gymnasium:make_vec",
        max_episode_steps=_entry.max_episode_steps,
        kwargs={"task": _name},
    )
