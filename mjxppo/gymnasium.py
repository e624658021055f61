"""Registers the tasks with Gymnasium as vector environments, when it is imported.

``gymnasium.make_vec("mjxppo.gymnasium:mjxppo/HalfCheetah-v5", num_envs=1024)`` imports it on the way; after
``import mjxppo.gymnasium`` the id is ``mjxppo/HalfCheetah-v5``.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

TASKS = {"HalfCheetah-v5": "half_cheetah", "Hopper-v5": "hopper", "Walker2d-v5": "walker2d"}
"""Gymnasium's names of the tasks, and this package's."""

for _gym_id, _task in TASKS.items():
    register(
        f"mjxppo/{_gym_id}",
        vector_entry_point="mjxppo.interop.gymnasium:make_vec",
        max_episode_steps=1000,
        kwargs={"task": _task},
    )
