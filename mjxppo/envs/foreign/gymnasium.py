"""GymnasiumTask: an environment of Gymnasium as a task. Its worlds are on the host; the device program calls them.

A simulation on the host cannot be copied, set back or saved. The task's worlds hold only the results of its last step
and the number of steps that it has taken. Each call compares that number with the simulation's own and refuses a state
that is not the present one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import flax.struct
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jax.experimental import io_callback

from mjxppo.config.values import plain
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.batch import is_bounded
from mjxppo.envs.foreign.adapted import MASK, adapted, adapted_in_process, make_one
from mjxppo.envs.foreign.results import PREFIX, check_results
from mjxppo.envs.foreign.spaces import action_spec
from mjxppo.envs.host import HostTask, main_has_a_guard
from mjxppo.envs.task import NO_LIMIT, Array, Ended
from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings

T = TypeVar("T")


@flax.struct.dataclass
class GymnasiumWorlds:
    """The results of the last step of N worlds on the host; every array leads with N."""

    obs: Array
    """[N, obs_size]"""
    mask: Array | None
    """Whether each category may be chosen, [N, sum of categories] bool; None where the environment says nothing."""
    reward: Array
    truncated: Array
    vector_env: Array
    """Index of the vector environment that simulates these worlds, the same for all, [N] int32."""
    steps_taken: Array
    """Steps that the vector environment has taken, the same for all, [N] int32."""


class GymnasiumTask(HostTask):
    """N copies of a Gymnasium environment, stepped together by Gymnasium's vector environment.

    A random key seeds every episode. An episode ends where the environment says so.
    """

    def __init__(self, gym_id: str, **options: Any):
        """Builds one copy to read its sizes; the N worlds are built when they are first reset.

        ``gym_id`` is its id, such as "Hopper-v5", or "module:Name-v0" to import a module that registers it. Options are
        ``perturb`` as for ``make_one``, ``vectorization_mode`` "sync" (default) or "async" (a process for each world),
        and those of ``gymnasium.make_vec`` and the environment.

        Raises:
            UserError: there is no such environment, it refuses the options, or a policy cannot act in its spaces.
        """
        options = plain(options)
        self._mode = options.pop("vectorization_mode", "sync")
        if self._mode not in ("sync", "async"):
            raise UserError(f"env_options.vectorization_mode: must be sync or async, not {self._mode!r}")
        if self._mode == "async" and not main_has_a_guard():
            raise UserError(
                "env_options.vectorization_mode: async starts processes that run the script again; put what it does "
                "below if __name__ == '__main__':"
            )
        env = make_one(gym_id, options)
        self.name, self.gym_id = f"{PREFIX}{gym_id}", gym_id
        self.obs_size, self._actions = _obs_size(env), action_spec(env.action_space, self.name)
        self.action_size, self.categories = self._actions.size, self._actions.categories
        self.max_episode_steps = (env.spec and env.spec.max_episode_steps) or NO_LIMIT
        self.step_duration = float(getattr(env.unwrapped, "dt", math.nan))  # not every environment has it
        self._gives_masks = MASK in check_results(env, self.name, self._actions)
        env.close()
        make_envs = partial(self._make_vector_env, gym_id, options)
        self._vector_envs = _VectorEnvs(make_envs, self._actions, self._gives_masks)

    @property
    def failure(self) -> Exception | None:
        return self._vector_envs.failure

    def _make_vector_env(self, gym_id: str, options: Mapping[str, Any], num_envs: int) -> VectorEnv[Any, Any, Any]:
        options = dict(options)
        arguments: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
        changes = options.pop("perturb", {})
        adapt: Any = partial(adapted, changes=changes)
        if self._mode == "async":
            arguments["context"] = "spawn"  # forking a process in which JAX runs threads may hang it
            adapt = partial(adapted_in_process, changes=changes, trainer=os.getpid())
        with without_model_warnings():
            options |= {"vectorization_mode": self._mode, "vector_kwargs": arguments, "wrappers": [adapt]}
            return gymnasium.make_vec(gym_id, num_envs=num_envs, **options)

    @property
    def actions(self) -> ActionSpec:
        return self._actions

    def action_mask(self, worlds: GymnasiumWorlds) -> Array | None:
        return worlds.mask

    def initial(self, keys: Array) -> GymnasiumWorlds:
        count = keys.shape[0]
        shapes = self._seen_shapes(count), _shape(count, jnp.int32)
        (obs, mask), vector_env = self._call_host(self._vector_envs.add, shapes, _seeds(keys))
        return GymnasiumWorlds(
            obs=obs,
            mask=mask,
            reward=jnp.zeros(count),
            truncated=jnp.zeros(count, bool),
            vector_env=vector_env,
            steps_taken=jnp.zeros(count, jnp.int32),
        )

    def restart(self, worlds: GymnasiumWorlds, ended: Ended, keys: Array) -> GymnasiumWorlds:
        count = keys.shape[0]
        shapes = self._seen_shapes(count), _shape(count, jnp.int32)
        arguments = worlds.vector_env, _seeds(keys), ended.done
        (obs, mask), steps_taken = self._call_host(self._vector_envs.reset_some, shapes, *arguments)
        return replace(worlds, obs=obs, mask=mask, steps_taken=steps_taken)

    def observe(self, worlds: GymnasiumWorlds) -> Array:
        return worlds.obs

    def advance(self, worlds: GymnasiumWorlds, action: Array) -> tuple[GymnasiumWorlds, dict[str, Array], Array]:
        count = action.shape[0]
        of_worlds = (_shape(count, dtype) for dtype in (jnp.float32, jnp.bool_, jnp.bool_, jnp.int32))
        shapes = self._seen_shapes(count), *of_worlds
        arguments = worlds.vector_env, worlds.steps_taken, action
        seen, reward, terminated, truncated, steps_taken = self._call_host(self._vector_envs.step, shapes, *arguments)
        obs, mask = seen
        worlds = replace(worlds, obs=obs, mask=mask, reward=reward, truncated=truncated, steps_taken=steps_taken)
        return worlds, {"reward": reward}, terminated

    def truncated(self, worlds: GymnasiumWorlds) -> Array:
        return worlds.truncated

    def metrics(self, worlds: GymnasiumWorlds) -> dict[str, Array]:
        return {"obs_bounded": is_bounded(worlds.obs)}

    def reward_term_names(self, worlds: GymnasiumWorlds, action: Array) -> list[str]:
        return ["reward"]

    def _call_host(self, method: Callable[..., Any], shapes: Any, *arguments: Array) -> Any:
        """Calls a method of ``_VectorEnvs`` from the device program; ``shapes`` are those of its results."""
        return io_callback(partial(self._vector_envs.keep_failure, method), shapes, *arguments)

    def _seen_shapes(self, count: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct | None]:
        """Shapes of the observations and the masks, if there are any, of ``count`` worlds."""
        mask = jax.ShapeDtypeStruct((count, self._actions.logits), jnp.bool_)
        return jax.ShapeDtypeStruct((count, self.obs_size), jnp.float32), mask if self._gives_masks else None


class _VectorEnvs:
    """Gymnasium's vector environments: one for each policy that a run trains, in the order of their first reset.

    The methods' arguments and results are small arrays: JAX hands those over without its thread pool, one thread of
    which is busy with the call.
    """

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]], actions: ActionSpec, gives_masks: bool):
        self.failure: Exception | None = None
        self._gives_masks = gives_masks
        self._make = make
        self._actions = actions
        self._masks: list[np.ndarray | None] = []
        self._envs: list[VectorEnv[Any, Any, Any]] = []
        self._steps_taken: list[int] = []

    def keep_failure(self, method: Callable[..., T], *arguments: Any) -> T:
        """Calls one of the other methods and keeps the exception that it raises: JAX passes on only its text."""
        try:
            return method(*arguments)
        except Exception as error:
            self.failure = error
            raise

    def _seen(self, index: int, obs: np.ndarray, info: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        """Observations and masks of a vector environment's worlds, after a reset or a step with this ``info``."""
        if MASK in info and not self._gives_masks:
            raise UserError(f"env: it gives an {MASK} that it did not give at first; give it in the info of reset, too")
        if MASK in info:
            given, present = np.asarray(info[MASK], bool), np.asarray(info[f"_{MASK}"], bool)
            before = self._masks[index]
            self._masks[index] = np.where(present[:, None], given, True if before is None else before)
        return _float32(obs), self._masks[index]

    def add(self, seeds: Any) -> tuple[Any, np.ndarray]:
        """Builds a vector environment with a world for each seed; returns what is seen (``_seen``) and its index."""
        env = self._make(len(seeds))
        self._envs.append(env)
        self._steps_taken.append(0)
        self._masks.append(None)
        obs, info = env.reset(seed=np.asarray(seeds).tolist())
        index = len(self._envs) - 1
        return self._seen(index, obs, info), np.full(len(seeds), index, np.int32)

    def step(self, vector_env: Any, steps_taken: Any, action: Any) -> tuple[Any, ...]:
        """Steps a vector environment by action vectors [N, action_size].

        Returns what is seen (``_seen``), reward, terminated, truncated and the steps that it has taken.

        Raises:
            RuntimeError: it has not taken ``steps_taken`` steps.
        """
        index = int(np.asarray(vector_env)[0])
        own = self._steps_taken[index]
        if (np.asarray(steps_taken) != own).any():
            raise RuntimeError(f"the worlds on the host have taken {own} steps, and not {steps_taken}")
        own_form = self._actions.decode(np.array(action))
        obs, reward, terminated, truncated, info = self._envs[index].step(own_form)
        self._steps_taken[index] += 1
        taken = np.full(len(obs), self._steps_taken[index], np.int32)
        return self._seen(index, obs, info), _float32(reward), terminated, truncated, taken

    def reset_some(self, vector_env: Any, seeds: Any, mask: Any) -> tuple[Any, np.ndarray]:
        """Resets the worlds of a vector environment where ``mask``; returns what is seen and the steps taken."""
        index = int(np.asarray(vector_env)[0])
        options = {"reset_mask": np.array(mask, bool)}
        obs, info = self._envs[index].reset(seed=np.asarray(seeds).tolist(), options=options)
        return self._seen(index, obs, info), np.full(len(obs), self._steps_taken[index], np.int32)


def _float32(x: np.ndarray) -> np.ndarray:
    """Numbers as a training program has them; a reward that is too large is infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _obs_size(env: gymnasium.Env[Any, Any]) -> int:
    """The length of the environment's observations, which ``make_one`` has made vectors."""
    assert env.observation_space.shape is not None
    return int(env.observation_space.shape[0])


def _shape(count: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count,), dtype)


def _seeds(keys: Array) -> Array:
    """A seed for each random key, [N] uint32."""
    return jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(keys)
