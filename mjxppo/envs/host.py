"""Worlds that are simulated on the host, outside of the device program, which calls them.

They cannot be copied, split, set back or saved: one device steps all of them together, and a resumed run begins new
episodes.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax import lax

from mjxppo.envs.environment import Environment, EnvState
from mjxppo.envs.task import Array, Task


def main_has_a_guard() -> bool:
    """Whether new processes may import the script that Python was started with, without doing its work again.

    True as well where that cannot be told, and where there is no script, as in a notebook.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    try:
        return file is None or "__name__" in Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return True


class HostTask(Task):
    """A task whose worlds are simulated on the host."""

    @property
    @abstractmethod
    def failure(self) -> Exception | None:
        """The exception that the simulation raised last; None if it raised none."""

    @abstractmethod
    def truncated(self, worlds: Any) -> Array:
        """Whether the last step ended the episode by a time limit of the simulation's own, [N] bool."""


class HostEnvironment(Environment):
    """Episodes of a task that is simulated on the host."""

    restorable = False
    task: HostTask

    @property
    def failure(self) -> Exception | None:
        return self.task.failure

    def advance(self, state: EnvState, action: Array) -> EnvState:
        stepped = super().advance(state, action)
        truncated = self.task.truncated(stepped.worlds)
        return replace(stepped, truncated=stepped.truncated | (truncated & ~stepped.terminated))

    def step_active(self, state: EnvState, action: Array, active: Array) -> EnvState:
        """``step`` of all worlds where any is ``active``, because they are stepped together; else no step."""
        return lax.cond(active.any(), self.step, lambda state, _: state, state, action)

    def wait(self, state: EnvState, stepped: EnvState, active: Array) -> EnvState:
        """``stepped``, because all worlds were; one that is not ``active`` [N] still counts as done if it was."""
        terminated = jnp.where(active, stepped.terminated, state.terminated)
        truncated = jnp.where(active, stepped.truncated, state.truncated)
        return replace(stepped, terminated=terminated, truncated=truncated)

    def begin(self, state: EnvState) -> EnvState:
        """New episodes in all worlds: those that waited are in the middle of one."""
        return self.reset_done(replace(state, truncated=jnp.ones_like(state.truncated)))

    def stagger(self, state: EnvState, key: Array, indices: Array) -> EnvState:
        """The state unchanged: the simulation keeps its own clocks."""
        return state

    def restore(self, state: EnvState) -> EnvState:
        """New episodes in new worlds, from the saved random keys."""
        return self.reset(state.key)
