"""ObservedTask: a task whose observations also hold the past, and hidden facts about the worlds."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax.numpy as jnp

from mjxppo.envs.task import Array, Ended, Task, WrappedTask
from mjxppo.errors import UserError


@flax.struct.dataclass
class ObservedWorlds:
    """N worlds, and their past observations."""

    inner: Any
    """The inner task's worlds."""
    stack: Array
    """The newest observation, then each earlier action with the observation that it was chosen for, the latest first:
    ``o[t], a[t-1], o[t-1], a[t-2], o[t-2], ...``, [N, k * obs_size + (k - 1) * action_size]."""


class ObservedTask(WrappedTask):
    """A task around a task: observations become ``[stack of the last k observations | hidden facts]``.

    A shorter stack is the beginning of a longer one. At an episode's start the stack is filled with the present
    observation and actions of 0. The stack is part of the worlds, so that resets, time limits and ``final_obs``
    need no special treatment.
    """

    def __init__(self, inner: Task, history: int, privileged: bool):
        """Wraps ``inner``; the stack has ``history`` = k observations, and ``privileged`` appends the hidden facts.

        Raises:
            UserError: ``privileged``, and the inner task has no hidden facts.
        """
        super().__init__(inner)
        self.history = history
        self.stack_size = history * inner.obs_size + (history - 1) * inner.action_size
        self.privileged = inner.hidden_sizes() if privileged else {}
        if privileged and not self.privileged:
            raise UserError(
                f"policy.privileged: {inner.name} has no privileged observations, unless randomize varies something"
            )
        self.privileged_size = sum(self.privileged.values())
        self.obs_size = self.stack_size + self.privileged_size

    def initial(self, keys: Array) -> ObservedWorlds:
        return self._with_filled_stack(self.inner.initial(keys))

    def restart(self, worlds: ObservedWorlds, ended: Ended, keys: Array) -> ObservedWorlds:
        return self._with_filled_stack(self.inner.restart(worlds.inner, ended, keys))

    def _with_filled_stack(self, inner: Any) -> ObservedWorlds:
        """Worlds at the start of an episode."""
        obs = self.inner.observe(inner)
        before = jnp.concatenate([jnp.zeros((obs.shape[0], self.action_size), obs.dtype), obs], axis=1)
        return ObservedWorlds(inner, jnp.concatenate([obs, *[before] * (self.history - 1)], axis=1))

    def observe(self, worlds: ObservedWorlds) -> Array:
        if not self.privileged:
            return worlds.stack
        known = self.inner.hidden(worlds.inner)
        return jnp.concatenate([worlds.stack, *(known[name] for name in self.privileged)], axis=1)

    def advance(self, worlds: ObservedWorlds, action: Array) -> tuple[ObservedWorlds, dict[str, Array], Array]:
        inner, terms, terminated = self.inner.advance(worlds.inner, action)
        stack = jnp.concatenate([self.inner.observe(inner), action, worlds.stack], axis=1)
        return ObservedWorlds(inner, stack[:, : self.stack_size]), terms, terminated

    def state_variables(self, worlds: ObservedWorlds) -> Any:
        return self.inner.state_variables(worlds.inner), worlds.stack
