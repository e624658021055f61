"""What the networks see of a task: earlier observations and actions as well, and what only the simulation knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.struct
import jax.numpy as jnp

from mjxppo.envs.environment import Array, Environment, EnvState
from mjxppo.errors import UserError


@flax.struct.dataclass
class World:
    """N worlds, and what has been seen of them."""

    physics: Any
    """The worlds of the environment inside."""
    stack: Array
    """The newest observation, then each earlier action with the observation that it followed, the latest first:
    ``o[t], a[t-1], o[t-1], a[t-2], o[t-2], ...``, [N, k * obs_size + (k - 1) * action_size]."""


def wrap(env: Environment, history: int, privileged: bool) -> Environment:
    """The environment itself where nothing is added to its observations, else the one around it that adds it.

    Raises:
        UserError: privileged observations are asked for, and the environment knows of none; or worlds on the host
            would have to remember.
    """
    if env.on_host and (history > 1 or privileged):
        field = "privileged" if privileged else "history"
        raise UserError(f"policy.{field}: {env.name} is simulated on the host, and observed as it is; leave it out")
    return ObservedEnvironment(env, history, privileged) if history > 1 or privileged else env


class ObservedEnvironment(Environment):
    """Observations become ``[stack of the last k | what is hidden]``.

    Shorter stacks are the beginnings of longer ones. At an episode's start the stack is filled as if the robot had
    been observed as it is now, and had been told nothing (actions of 0), for ever. Tasks, resets, time limits and
    ``final_obs`` need to know nothing of this, because the stack belongs to the world.
    """

    def __init__(self, env: Environment, history: int, privileged: bool):
        self.env = env
        self.history = history
        self.stack_size = history * env.obs_size + (history - 1) * env.action_size
        self.privileged = env.hidden_sizes() if privileged else {}
        if privileged and not self.privileged:
            raise UserError(f"policy.privileged: {env.name} hides nothing, unless randomize varies something")
        self.privileged_size = sum(self.privileged.values())
        self.obs_size, self.action_size = self.stack_size + self.privileged_size, env.action_size
        self.name, self.gym_id = env.name, env.gym_id
        self.max_episode_steps, self.step_duration = env.max_episode_steps, env.step_duration

    def reset_info(self, physics: World) -> dict[str, Array]:
        return self.env.reset_info(physics.physics)

    def step_info(self, state: EnvState) -> dict[str, Array]:
        return self.env.step_info(replace(state, physics=state.physics.physics))

    def metrics(self, state: EnvState) -> dict[str, Array]:
        return self.env.metrics(replace(state, physics=state.physics.physics))

    def renew(self, state: EnvState) -> EnvState:
        inner = self.env.renew(replace(state, physics=state.physics.physics))
        return replace(state, physics=replace(state.physics, physics=inner.physics))

    def _variables(self, physics: World) -> Any:
        return self.env._variables(physics.physics), physics.stack

    def _initial(self, keys: Array) -> World:
        return self._begun(self.env._initial(keys))

    def _restart(self, state: EnvState, keys: Array) -> World:
        return self._begun(self.env._restart(replace(state, physics=state.physics.physics), keys))

    def _begun(self, physics: Any) -> World:
        obs = self.env._observe(physics)
        before = jnp.concatenate([jnp.zeros((obs.shape[0], self.action_size), obs.dtype), obs], axis=1)
        return World(physics, jnp.concatenate([obs, *[before] * (self.history - 1)], axis=1))

    def _observe(self, physics: World) -> Array:
        if not self.privileged:
            return physics.stack
        known = self.env._hidden(physics.physics)
        return jnp.concatenate([physics.stack, *(known[name] for name in self.privileged)], axis=1)

    def _hidden(self, physics: World) -> dict[str, Array]:
        return self.env._hidden(physics.physics)

    def _advance(self, physics: World, action: Array) -> tuple[World, dict[str, Array], Array]:
        moved, terms, terminated = self.env._advance(physics.physics, action)
        stack = jnp.concatenate([self.env._observe(moved), action, physics.stack], axis=1)
        return World(moved, stack[:, : self.stack_size]), terms, terminated
