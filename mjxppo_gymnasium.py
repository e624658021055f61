"""Gymnasium's plugin: ``gymnasium.make_vec("mjxppo/HalfCheetah-v5", num_envs=1024)`` without any other import.

It lies outside the package because Gymnasium loads its plugins with itself, while importing the package chooses XLA's
settings for the whole process. They are chosen when a task is made.
"""

from gymnasium.envs.registration import register as _register
from gymnasium.envs.registration import registry as _registry

TASKS = {"HalfCheetah-v5": "half_cheetah", "Hopper-v5": "hopper", "Walker2d-v5": "walker2d"}
"""Gymnasium's names of the tasks, and this package's."""


def register() -> None:
    """Makes ``mjxppo/HalfCheetah-v5`` and the others known to Gymnasium; harmless when done twice."""
    for gym_id, task in TASKS.items():
        if f"mjxppo/{gym_id}" not in _registry:
            _register(
                f"mjxppo/{gym_id}",
                vector_entry_point="mjxppo.envs.adapters.to_gymnasium:make_vec",
                max_episode_steps=1000,
                kwargs={"task": task},
            )
