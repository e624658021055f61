"""An environment of Gymnasium, whose worlds are on the host, as one of ours: the device program calls them.

Physics on the host cannot be copied, undone or saved. What the state holds of it is what it last said; each call hands
the number of steps taken back, so that a state out of step with its worlds is noticed.
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
from jax import lax
from jax.experimental import io_callback

from mjxppo.envs.environment import Array, Environment, EnvState, at_start, split_each
from mjxppo.envs.randomize.changes import QUANTITIES, changed_fields
from mjxppo.errors import UserError
from mjxppo.physics import modify_model
from mjxppo.physics.messages import without_model_warnings

T = TypeVar("T")

PREFIX = "gymnasium:"
_NO_LIMIT = 2**31 - 1


@flax.struct.dataclass
class HostWorlds:
    """What N worlds on the host last said; every array leads with N."""

    obs: Array
    """[N, obs_size]"""
    reward: Array
    truncated: Array
    group: Array
    """Which of the host's vector environments they are, the same for all, [N] int32."""
    time: Array
    """Steps that it has taken, the same for all, [N] int32."""


class FromGymnasium(Environment):
    """N copies of a Gymnasium environment, stepped together by its vector environment.

    Random keys seed every episode. An episode ends where the environment says so.
    """

    on_host = True

    def __init__(self, gym_id: str, **options: Any):
        """Looks at the environment; its worlds are made when they are first reset.

        Args:
            gym_id: its id, such as "Hopper-v5", or "module:Name-v0" to import a module that registers it.
            options: ``perturb`` as for ``make_one``, ``vectorization_mode`` "sync" (default) or "async" (a process for
                each world), and what else ``gymnasium.make_vec`` and the environment take.

        Raises:
            UserError: there is no such environment, it refuses the options, or its spaces are no vectors.
        """
        self._mode = options.pop("vectorization_mode", "sync")
        if self._mode not in ("sync", "async"):
            raise UserError(f"env_options.vectorization_mode: must be sync or async, not {self._mode!r}")
        env = make_one(gym_id, options)
        self.name, self.gym_id = f"{PREFIX}{gym_id}", gym_id
        self.obs_size, self.action_size = _size(env, "observation"), _size(env, "action")
        self.max_episode_steps = (env.spec and env.spec.max_episode_steps) or _NO_LIMIT
        self.step_duration = float(getattr(env.unwrapped, "dt", math.nan))  # some say nothing of time
        env.close()
        self._host = _Host(partial(self._make_vector, gym_id, options))

    @property
    def failure(self) -> Exception | None:  # type: ignore[override]
        return self._host.failure

    def _make_vector(self, gym_id: str, options: Mapping[str, Any], num_envs: int) -> VectorEnv[Any, Any, Any]:
        options = dict(options)
        arguments: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
        if self._mode == "async":
            arguments["context"] = "spawn"  # forking a process in which JAX runs threads may hang it
        adapt: Any = partial(_adapted, changes=options.pop("perturb", {}))
        with without_model_warnings():
            return gymnasium.make_vec(
                gym_id,
                num_envs=num_envs,
                vectorization_mode=self._mode,
                vector_kwargs=arguments,
                wrappers=[adapt],
                **options,
            )

    def _initial(self, keys: Array) -> HostWorlds:
        count = keys.shape[0]
        obs, group = self._ask(self._host.begin, (self._obs_of(count), _each(count, jnp.int32)), _seeds(keys))
        return HostWorlds(
            obs=obs,
            reward=jnp.zeros(count),
            truncated=jnp.zeros(count, bool),
            group=group,
            time=jnp.zeros(count, jnp.int32),
        )

    def _observe(self, physics: HostWorlds) -> Array:
        return physics.obs

    def _advance(self, physics: HostWorlds, action: Array) -> tuple[HostWorlds, dict[str, Array], Array]:
        count = action.shape[0]
        said = (
            self._obs_of(count),
            _each(count, jnp.float32),
            _each(count, jnp.bool_),
            _each(count, jnp.bool_),
            _each(count, jnp.int32),
        )
        obs, reward, terminated, truncated, time = self._ask(self._host.step, said, physics.group, physics.time, action)
        physics = replace(physics, obs=obs, reward=reward, truncated=truncated, time=time)
        return physics, {"reward": reward}, terminated

    def _term_names(self, physics: Any, action: Array) -> list[str]:
        return ["reward"]

    def advance(self, state: EnvState, action: Array) -> EnvState:
        stepped = super().advance(state, action)
        return replace(stepped, truncated=stepped.truncated | (stepped.physics.truncated & ~stepped.terminated))

    def _restart(self, state: EnvState, keys: Array) -> HostWorlds:
        return self._begin_episodes(state.physics, keys, state.done)

    def _begin_episodes(self, physics: HostWorlds, keys: Array, where: Array) -> HostWorlds:
        count = keys.shape[0]
        said = self._obs_of(count), _each(count, jnp.int32)
        obs, time = self._ask(self._host.restart, said, physics.group, _seeds(keys), where)
        return replace(physics, obs=obs, time=time)

    def step_active(self, state: EnvState, action: Array, active: Array) -> EnvState:
        """As ``step`` where any world is ``active``, and then in all: the host's worlds act together."""
        return lax.cond(active.any(), self.step, lambda state, _: state, state, action)

    def begin_anew(self, state: EnvState) -> EnvState:
        keys, reset_keys = split_each(state.key)
        physics = self._begin_episodes(state.physics, reset_keys, jnp.ones_like(state.done))
        return at_start(physics, keys, physics.obs, state.reward_terms)

    def _ask(self, method: Callable[..., Any], shapes: Any, *arguments: Array) -> Any:
        return io_callback(partial(self._host.call, method), shapes, *arguments)

    def _obs_of(self, count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, self.obs_size), jnp.float32)


class _Host:
    """The worlds themselves: a vector environment for each policy that a run trains, in the order of their begin.

    Its methods take and give small arrays: JAX moves those without waiting for its own threads, one of which is busy
    calling them.
    """

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]]):
        self.failure: Exception | None = None
        self._make = make
        self._groups: list[VectorEnv[Any, Any, Any]] = []
        self._times: list[int] = []

    def call(self, method: Callable[..., T], *arguments: Any) -> T:
        """Calls one of the others, and remembers what it raises: JAX makes text of it."""
        try:
            return method(*arguments)
        except Exception as error:
            self.failure = error
            raise

    def begin(self, seeds: Any) -> tuple[np.ndarray, np.ndarray]:
        vector = self._make(len(seeds))
        self._groups.append(vector)
        self._times.append(0)
        obs, _ = vector.reset(seed=np.asarray(seeds).tolist())
        return obs.astype(np.float32), np.full(len(seeds), len(self._groups) - 1, np.int32)

    def step(self, group: Any, time: Any, action: Any) -> tuple[np.ndarray, ...]:
        index = int(np.asarray(group)[0])
        if (np.asarray(time) != self._times[index]).any():
            raise RuntimeError(f"the worlds on the host are {self._times[index]} steps old, and not {time}")
        obs, reward, terminated, truncated, _ = self._groups[index].step(np.array(action))
        self._times[index] += 1
        return (
            obs.astype(np.float32),
            reward.astype(np.float32),
            terminated,
            truncated,
            np.full(len(obs), self._times[index], np.int32),
        )

    def restart(self, group: Any, seeds: Any, where: Any) -> tuple[np.ndarray, np.ndarray]:
        index = int(np.asarray(group)[0])
        mask = np.array(where, bool)
        obs, _ = self._groups[index].reset(seed=np.asarray(seeds).tolist(), options={"reset_mask": mask})
        return obs.astype(np.float32), np.full(len(obs), self._times[index], np.int32)


def make_one(gym_id: str, options: Mapping[str, Any], **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One environment of Gymnasium that takes actions in [-1, 1].

    Args:
        gym_id: its id.
        options: what ``gymnasium.make`` and the environment take, and ``perturb``: changes of a MuJoCo environment's
            model, by factors, such as ``{"friction": 0.6, "mass": 1.15}`` (``randomize.changes.QUANTITIES``).
        kwargs: more for ``gymnasium.make``.

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
    space = getattr(env, f"{what}_space")
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"env: the {what}s of {PREFIX}{env.spec and env.spec.id} must be a vector, not {space}")
    return int(space.shape[0])


def _each(count: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count,), dtype)


def _seeds(keys: Array) -> Array:
    return jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(keys)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
