"""Tasks on top of physics, and the environment that runs their episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mjxppo.envs.build import as_brax, make
    from mjxppo.envs.environment import Environment, EnvState
    from mjxppo.envs.task import Task

__all__ = ["EnvState", "Environment", "Task", "as_brax", "make"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported on first use: the names of the tasks (``envs.registry``) are known without JAX.
    from mjxppo.envs import build, environment, task

    public = {"as_brax": build.as_brax, "make": build.make, "Task": task.Task}
    public |= {"Environment": environment.Environment, "EnvState": environment.EnvState}
    return public[name]
