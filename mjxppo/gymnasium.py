"""Registers the tasks with Gymnasium as vector environments when it is imported; imports neither JAX nor MuJoCo.

``gymnasium.make_vec("mjxppo.gymnasium:mjxppo/HalfCheetah-v5", num_envs=1024)`` imports it on the way; after
``import mjxppo.gymnasium`` the id is ``mjxppo/HalfCheetah-v5``.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

from mjxppo.envs.registry import TASKS

for _name, _entry in TASKS.items():
    register(
        f"mjxppo/{_entry.gym_id}",
        vector_entry_point="mjxppo.interop.gymnasium:make_vec",
        max_episode_steps=1000,
        kwargs={"task": _name},
    )
