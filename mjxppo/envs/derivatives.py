"""Whether a task can be differentiated, which algorithms that go through its steps need."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.envs.environment import Environment
from mjxppo.envs.host import HostEnvironment
from mjxppo.envs.robot_task import RobotTask
from mjxppo.envs.task import Task
from mjxppo.errors import UserError


def check_derivatives(env: Environment) -> None:
    """Raises UserError, which names the field and the remedy, where SHAC cannot differentiate the steps of ``env``."""
    task = env.task
    if isinstance(env, HostEnvironment):
        raise UserError(
            f"algorithm: shac differentiates the simulation, and {env.name} is simulated on the host; choose ppo"
        )
    if env.actions.categories:
        raise UserError(f"algorithm: shac needs actions that are numbers, and {env.name} has choices; choose ppo")
    inner = task.unwrapped
    if isinstance(inner, RobotTask) and not inner.differentiable:
        reason = f" ({inner.physics.not_planar})" if inner.physics.not_planar else ""
        raise UserError(
            f"physics.backend: must be planar or spatial for shac, and {env.name} is simulated by "
            f"{inner.physics.name}{reason}, which has no derivatives"
        )
    problem = None if task.differentiable else "is of another library"
    if not isinstance(inner, RobotTask) and problem is None:  # another physics is known, and takes seconds to trace
        problem = _problem_of_derivatives(task)
    if problem is not None:
        raise UserError(f"algorithm: shac needs derivatives of {env.name}, which {problem}; choose ppo")


def _problem_of_derivatives(task: Task) -> str | None:
    """Why JAX cannot differentiate a step by the action, in the first line of its words; None where it can."""

    def total(action: jax.Array, worlds: Any) -> jax.Array:
        moved, terms, _ = task.advance(worlds, action)
        leaves = [x for x in jax.tree.leaves((moved, terms)) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum((x.sum() for x in leaves), jnp.float32(0))

    worlds = jax.eval_shape(task.initial, jax.random.split(jax.random.key(0), 2))
    action = jax.ShapeDtypeStruct((2, task.action_size), jnp.float32)
    try:
        jax.eval_shape(jax.grad(total), action, worlds)
    except Exception as error:  # whatever JAX, or a library that the task calls, raises
        return f"JAX cannot take ({(str(error).splitlines() or [type(error).__name__])[0]})"
    return None
