"""GymnasiumTask: an environment of Gymnasium as a task. Its worlds are on the host; the device program calls them.

A simulation on the host cannot be copied, set back or saved. The task's worlds hold only the results of its last step
and the number of steps that it has taken. Each call compares that number with the simulation's own and refuses a state
that is not the present one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import flax.struct
import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jax.experimental import io_callback

from mjxppo.envs.host import HostTask
from mjxppo.envs.randomize.changes import QUANTITIES, changed_fields
from mjxppo.envs.task import NO_LIMIT, Array, Ended
from mjxppo.errors import UserError
from mjxppo.physics import modify_model
from mjxppo.physics.messages import without_model_warnings

T = TypeVar("T")

PREFIX = "gymnasium:"


@flax.struct.dataclass
class GymnasiumWorlds:
    """The results of the last step of N worlds on the host; every array leads with N."""

    obs: Array
    """[N, obs_size]"""
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
            UserError: there is no such environment, it refuses the options, or its spaces are not vectors.
        """
        self._mode = options.pop("vectorization_mode", "sync")
        if self._mode not in ("sync", "async"):
            raise UserError(f"env_options.vectorization_mode: must be sync or async, not {self._mode!r}")
        env = make_one(gym_id, options)
        self.name, self.gym_id = f"{PREFIX}{gym_id}", gym_id
        self.obs_size, self.action_size = _size(env, "observation"), _size(env, "action")
        self.max_episode_steps = (env.spec and env.spec.max_episode_steps) or NO_LIMIT
        self.step_duration = float(getattr(env.unwrapped, "dt", math.nan))  # not every environment has it
        env.close()
        self._vector_envs = _VectorEnvs(partial(self._make_vector_env, gym_id, options))

    @property
    def failure(self) -> Exception | None:
        return self._vector_envs.failure

    def _make_vector_env(self, gym_id: str, options: Mapping[str, Any], num_envs: int) -> VectorEnv[Any, Any, Any]:
        options = dict(options)
        arguments: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
        if self._mode == "async":
            arguments["context"] = "spawn"  # forking a process in which JAX runs threads may hang it
        adapt: Any = partial(_adapted, changes=options.pop("perturb", {}))
        with without_model_warnings():
            options |= {"vectorization_mode": self._mode, "vector_kwargs": arguments, "wrappers": [adapt]}
            return gymnasium.make_vec(gym_id, num_envs=num_envs, **options)

    def initial(self, keys: Array) -> GymnasiumWorlds:
        count = keys.shape[0]
        shapes = self._obs_shape(count), _shape(count, jnp.int32)
        obs, vector_env = self._call_host(self._vector_envs.add, shapes, _seeds(keys))
        return GymnasiumWorlds(
            obs=obs,
            reward=jnp.zeros(count),
            truncated=jnp.zeros(count, bool),
            vector_env=vector_env,
            steps_taken=jnp.zeros(count, jnp.int32),
        )

    def restart(self, worlds: GymnasiumWorlds, ended: Ended, keys: Array) -> GymnasiumWorlds:
        count = keys.shape[0]
        shapes = self._obs_shape(count), _shape(count, jnp.int32)
        arguments = worlds.vector_env, _seeds(keys), ended.done
        obs, steps_taken = self._call_host(self._vector_envs.reset_some, shapes, *arguments)
        return replace(worlds, obs=obs, steps_taken=steps_taken)

    def observe(self, worlds: GymnasiumWorlds) -> Array:
        return worlds.obs

    def advance(self, worlds: GymnasiumWorlds, action: Array) -> tuple[GymnasiumWorlds, dict[str, Array], Array]:
        count = action.shape[0]
        of_worlds = (_shape(count, dtype) for dtype in (jnp.float32, jnp.bool_, jnp.bool_, jnp.int32))
        shapes = self._obs_shape(count), *of_worlds
        arguments = worlds.vector_env, worlds.steps_taken, action
        obs, reward, terminated, truncated, steps_taken = self._call_host(self._vector_envs.step, shapes, *arguments)
        worlds = replace(worlds, obs=obs, reward=reward, truncated=truncated, steps_taken=steps_taken)
        return worlds, {"reward": reward}, terminated

    def truncated(self, worlds: GymnasiumWorlds) -> Array:
        return worlds.truncated

    def reward_term_names(self, worlds: GymnasiumWorlds, action: Array) -> list[str]:
        return ["reward"]

    def _call_host(self, method: Callable[..., Any], shapes: Any, *arguments: Array) -> Any:
        """Calls a method of ``_VectorEnvs`` from the device program; ``shapes`` are those of its results."""
        return io_callback(partial(self._vector_envs.keep_failure, method), shapes, *arguments)

    def _obs_shape(self, count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, self.obs_size), jnp.float32)


class _VectorEnvs:
    """Gymnasium's vector environments: one for each policy that a run trains, in the order of their first reset.

    The methods' arguments and results are small arrays: JAX hands those over without its thread pool, one thread of
    which is busy with the call.
    """

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]]):
        self.failure: Exception | None = None
        self._make = make
        self._envs: list[VectorEnv[Any, Any, Any]] = []
        self._steps_taken: list[int] = []

    def keep_failure(self, method: Callable[..., T], *arguments: Any) -> T:
        """Calls one of the other methods and keeps the exception that it raises: JAX passes on only its text."""
        try:
            return method(*arguments)
        except Exception as error:
            self.failure = error
            raise

    def add(self, seeds: Any) -> tuple[np.ndarray, np.ndarray]:
        """Builds a vector environment with a world for each seed; returns observations and its index."""
        env = self._make(len(seeds))
        self._envs.append(env)
        self._steps_taken.append(0)
        obs, _ = env.reset(seed=np.asarray(seeds).tolist())
        return obs.astype(np.float32), np.full(len(seeds), len(self._envs) - 1, np.int32)

    def step(self, vector_env: Any, steps_taken: Any, action: Any) -> tuple[np.ndarray, ...]:
        """Steps a vector environment; returns obs, reward, terminated, truncated and the steps that it has taken.

        Raises:
            RuntimeError: it has not taken ``steps_taken`` steps.
        """
        index = int(np.asarray(vector_env)[0])
        own = self._steps_taken[index]
        if (np.asarray(steps_taken) != own).any():
            raise RuntimeError(f"the worlds on the host have taken {own} steps, and not {steps_taken}")
        obs, reward, terminated, truncated, _ = self._envs[index].step(np.array(action))
        self._steps_taken[index] += 1
        taken = np.full(len(obs), self._steps_taken[index], np.int32)
        return obs.astype(np.float32), reward.astype(np.float32), terminated, truncated, taken

    def reset_some(self, vector_env: Any, seeds: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        """Resets the worlds of a vector environment where ``mask``; returns observations and the steps taken."""
        index = int(np.asarray(vector_env)[0])
        options = {"reset_mask": np.array(mask, bool)}
        obs, _ = self._envs[index].reset(seed=np.asarray(seeds).tolist(), options=options)
        return obs.astype(np.float32), np.full(len(obs), self._steps_taken[index], np.int32)


def make_one(gym_id: str, options: Mapping[str, Any], **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One environment of Gymnasium that takes actions in [-1, 1].

    ``options`` are those of ``gymnasium.make`` and the environment, and ``perturb``: changes of a MuJoCo environment's
    model, by factors, such as ``{"friction": 0.6, "mass": 1.15}`` (``randomize.changes.QUANTITIES``). ``kwargs`` are
    further arguments of ``gymnasium.make``.

    Raises:
        UserError: there is no such environment, or it refuses the options.
    """
    options = {name: value for name, value in options.items() if name != "vectorization_mode"}
    changes = _checked_changes(options.pop("perturb", {}))
    try:
        with without_model_warnings():
            env = gymnasium.make(gym_id, **options, **kwargs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UserError(f"env: {PREFIX}{gym_id}: {_first_line(error)}") from error
    except (TypeError, OSError, ValueError) as error:
        raise UserError(f"env_options: {PREFIX}{gym_id} does not take these options: {_first_line(error)}") from error
    return _adapted(env, changes)


def _adapted(env: gymnasium.Env[Any, Any], changes: Mapping[str, float]) -> gymnasium.Env[Any, Any]:
    """The environment with its model changed, and its actions scaled to [-1, 1]."""
    name = env.spec.id if env.spec else type(env).__name__
    if changes:
        model = getattr(env.unwrapped, "model", None)
        if not isinstance(model, mujoco.MjModel):
            raise UserError(f"env_options.perturb: {PREFIX}{name} is no MuJoCo environment")
        modify_model(model, changed_fields(model, changes))
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or ((space.low == -1).all() and (space.high == 1).all()):
        return env
    if not space.is_bounded():
        raise UserError(f"env: the actions of {PREFIX}{name} have no bounds to scale [-1, 1] to")
    return gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))


def _checked_changes(changes: Any) -> dict[str, float]:
    """``env_options.perturb`` as a dictionary; raises UserError where it is wrong."""
    if not isinstance(changes, Mapping):
        raise UserError(f"env_options.perturb: must be a mapping such as {{friction: 0.6}}, not {changes!r}")
    for name, change in changes.items():
        if name not in QUANTITIES:
            raise UserError(f"env_options.perturb: {name!r} is none of {', '.join(QUANTITIES)}")
        number = isinstance(change, int | float) and not isinstance(change, bool) and math.isfinite(change)
        if not number or (change <= 0 and name != "slope"):
            raise UserError(f"env_options.perturb.{name}: must be a positive factor, not {change!r}")
    return dict(changes)


def _size(env: gymnasium.Env[Any, Any], what: str) -> int:
    """The size of the environment's observations or actions; raises UserError where they are not vectors."""
    space = getattr(env, f"{what}_space")
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"env: the {what}s of {PREFIX}{env.spec and env.spec.id} must be a vector, not {space}")
    return int(space.shape[0])


def _shape(count: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count,), dtype)


def _seeds(keys: Array) -> Array:
    """A seed for each random key, [N] uint32."""
    return jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(keys)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
