"""BraxTask: an environment of Brax, of MuJoCo Playground, or any with their interface, as a task.

The interface is: ``reset(key) -> state`` and ``step(state, action) -> state`` of one world, with ``state.obs``,
``state.reward`` and ``state.done``, and ``action_size``. No base class is required.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp

from mjxppo.config.values import plain, whole
from mjxppo.envs.batch import MAX_VALUE, is_bounded
from mjxppo.envs.task import NO_LIMIT, Array, Task
from mjxppo.errors import UserError
from mjxppo.physics.compiler import allow_mjx, check_compiler
from mjxppo.physics.messages import import_mjx

_PRIVILEGED = "privileged_state"
_ON_MJX = ("sys", "mjx_model")
"""Where Brax's environments and Playground's have the model that Brax's pipelines or MJX simulate."""


class BraxTask(Task):
    """An environment with Brax's interface. Worlds are its states, batched.

    Where an observation has several parts, as in Playground, the policy has "state"; "privileged_state" is a hidden
    fact.
    """

    gym_id = None
    differentiable = False

    def __init__(self, env: Any, name: str = "", *, max_episode_steps: int = 1000):
        """Wraps ``env``, which must not reset itself, as the wrappers of Brax's own trainers do.

        ``name`` is its name in configurations (default: its class's), ``max_episode_steps`` its time limit in steps.

        Raises:
            UserError: it lacks that interface, or its observations are not a vector.
        """
        name = name or (env if isinstance(env, type) else type(env)).__name__
        if isinstance(env, type):
            raise UserError(f"env: {name} is a class; pass an object of it, such as {name}()")
        missing = [part for part in ("reset", "step", "action_size") if not hasattr(env, part)]
        if missing:
            raise UserError(f"env: {name} has no {missing[0]}; an environment has reset, step and action_size")
        max_episode_steps = whole("env_options.max_episode_steps", max_episode_steps)
        if not 1 <= max_episode_steps <= NO_LIMIT:
            raise UserError(f"env_options.max_episode_steps: must be from 1 to {NO_LIMIT}, not {max_episode_steps}")
        if any(hasattr(env, part) for part in _ON_MJX):
            check_compiler(name, "env")
        self._env = env
        self.name = name
        self.action_size = whole(f"env: action_size of {name}", env.action_size)
        if self.action_size < 1:
            raise UserError(f"env: action_size of {name}: must be at least 1, not {self.action_size}")
        self._types = state = _types_of_state(env, name, self.action_size)
        obs = _observation(state.obs)
        if not _is_vector(obs):
            raise UserError(f"env: {name} must observe a vector, or parts of which one, 'state', is a vector")
        if isinstance(state.obs, Mapping) and not _is_vector(state.obs.get(_PRIVILEGED, obs)):
            raise UserError(f"env: {name} must observe a vector as {_PRIVILEGED!r}")
        self.obs_size = int(obs.shape[0])
        self.max_episode_steps = max_episode_steps
        self.step_duration = _step_duration(env, name)

    def initial(self, keys: Array) -> Any:
        return _cast(jax.vmap(self._env.reset)(keys), self._types)

    def observe(self, worlds: Any) -> Array:
        return _bounded(_observation(worlds.obs))

    def metrics(self, worlds: Any) -> dict[str, Array]:
        return {"obs_bounded": is_bounded(self.observe(worlds))}

    def hidden(self, worlds: Any) -> dict[str, Array]:
        known = isinstance(worlds.obs, Mapping) and _PRIVILEGED in worlds.obs
        return {_PRIVILEGED: _bounded(worlds.obs[_PRIVILEGED])} if known else {}

    def advance(self, worlds: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        worlds = _cast(jax.vmap(self._env.step)(worlds, action), self._types)
        return worlds, {"reward": worlds.reward.astype(jnp.float32)}, worlds.done.astype(bool)

    def state_variables(self, worlds: Any) -> Any:
        # A solver's numbers may be larger than a sound world's: 0 for any number that is finite. An observation that is
        # infinite is bounded, as one that is large.
        observed = [jnp.where(jnp.isnan(x), x, 0) for x in _floating(worlds.obs)]
        every = jax.tree.leaves(worlds, is_leaf=lambda x: x is worlds.obs)
        others = _floating([x for x in every if x is not worlds.obs])
        return [*observed, *(jnp.where(jnp.isfinite(x), 0, x) for x in others)]


def _floating(tree: Any) -> list[Array]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def _is_vector(obs: Any) -> bool:
    """Whether a part of an observation is a vector of real numbers."""
    return (
        len(getattr(obs, "shape", ())) == 1 and obs.shape[0] > 0 and not jnp.issubdtype(obs.dtype, jnp.complexfloating)
    )


def _step_duration(env: Any, name: str) -> float:
    """Simulated seconds for each step; NaN where the environment does not say."""
    try:
        return float(getattr(env, "dt", math.nan))
    except (TypeError, ValueError) as error:
        raise UserError(f"env: dt of {name}: must be a number of seconds, not {env.dt!r}") from error


def _types_of_state(env: Any, name: str, action_size: int) -> Any:
    """Shape and type of each part of a world's state, as ``step`` leaves it.

    Raises UserError, which names the part, where ``reset`` or ``step`` cannot be traced, they give states that differ
    in more than the types of numbers, or the reward or the end is no number.
    """
    action = jax.ShapeDtypeStruct((action_size,), jnp.float32)
    begun = _traced(name, "reset", env.reset, jax.random.key(0))
    stepped = _traced(name, "step", env.step, begun, action)
    before, after = (dict(jax.tree_util.tree_flatten_with_path(state)[0]) for state in (begun, stepped))
    for path in [*before, *after]:
        part = jax.tree_util.keystr(path, simple=True, separator=".")
        for where, has, has_not in (("reset", before, after), ("step", after, before)):
            if path in has and path not in has_not:
                raise UserError(f"env: {name}'s state has {part} after {where} only; reset and step must give the same")
        if before[path].shape != after[path].shape:
            shapes = f"{list(before[path].shape)} after reset and {list(after[path].shape)} after step"
            raise UserError(f"env: {name}'s state has {part} of shape {shapes}; they must be the same")
    for part in ("reward", "done"):
        if shape := getattr(stepped, part).shape:
            raise UserError(f"env: {name}'s state has {part} of shape {list(shape)}; it must be a number, of shape []")
        if jnp.issubdtype(getattr(stepped, part).dtype, jnp.complexfloating):
            raise UserError(f"env: {name}'s state has {part} that is complex; it must be a real number")
    return stepped


def _traced(name: str, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes and types of the state that an environment's ``reset`` or ``step`` gives.

    Raises UserError, which names the function, where it fails, or the state lacks a part.
    """
    try:
        state = jax.eval_shape(function, *arguments)
    except UserError:
        raise
    except Exception as error:  # whatever its author wrote; JAX's own errors have pages
        said = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"env: {what} of {name} cannot be traced by JAX: {type(error).__name__}: {said}") from error
    for part in ("obs", "reward", "done"):
        if not hasattr(state, part):
            given = f"a {type(state).__name__} without {part}"
            raise UserError(f"env: {what} of {name} gives {given}; it must give a state with obs, reward and done")
    return state


def _cast(worlds: Any, types: Any) -> Any:
    """The states of N worlds with the types of numbers that ``_types_of_state`` has found."""
    cast = lambda x, wanted: x if x.dtype == wanted.dtype else x.astype(wanted.dtype)  # noqa: E731
    return jax.tree.map(cast, worlds, types)


def _observation(obs: Any) -> Any:
    """The part of an observation that the policy has."""
    return obs.get("state") if isinstance(obs, Mapping) else obs


def _bounded(obs: Array) -> Array:
    """An observation as float32, whose square does not overflow."""
    return jnp.clip(obs.astype(jnp.float32), -MAX_VALUE, MAX_VALUE)


def from_brax(name: str, *, max_episode_steps: int = 1000, **options: Any) -> BraxTask:
    """The environment ``name`` of ``brax.envs``; ``options`` are passed on to its constructor.

    Raises:
        UserError: Brax has no such environment or refuses the options.
    """
    allow_mjx()
    import_mjx()  # before Brax, which imports MJX itself
    from brax import envs

    try:
        env = envs.get_environment(name, **plain(options))
    except KeyError as error:
        raise UserError(f"env: Brax has no environment {name!r}") from error
    except TypeError as error:
        raise UserError(f"env_options: brax:{name} does not take these options: {error}") from error
    return BraxTask(env, f"brax:{name}", max_episode_steps=max_episode_steps)


def from_playground(name: str, *, max_episode_steps: int = 1000, **options: Any) -> BraxTask:
    """The environment ``name`` of MuJoCo Playground's registry; the package has to be installed.

    ``options`` override fields of its configuration; ``impl`` is "jax" where Warp is not installed.

    Raises:
        UserError: Playground is not installed, has no such environment, or refuses the options.
    """
    allow_mjx()
    import_mjx()
    try:
        from mujoco_playground import registry  # an optional package
    except ImportError as error:
        raise UserError(f"env: playground:{name} needs MuJoCo Playground: pip install 'playground<1'") from error
    if name not in registry.ALL_ENVS:
        raise UserError(f"env: Playground has no environment {name!r}")
    if find_spec("warp") is None and "impl" in registry.get_default_config(name):
        options = {"impl": "jax"} | options
    try:
        env = registry.load(name, config_overrides=plain(options))
    except (KeyError, TypeError) as error:
        raise UserError(f"env_options: playground:{name} does not take these options: {error}") from error
    return BraxTask(env, f"playground:{name}", max_episode_steps=max_episode_steps)
