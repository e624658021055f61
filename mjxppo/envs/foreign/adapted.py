"""One environment of Gymnasium, adapted to what a policy sees and does: vectors, flat masks, a changed model."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.foreign.results import MASK, PREFIX, PlainResults
from mjxppo.envs.foreign.spaces import action_spec
from mjxppo.envs.randomize.changes import QUANTITIES, changed_fields
from mjxppo.envs.registry import NAMESPACE
from mjxppo.envs.robot import model_file
from mjxppo.errors import UserError
from mjxppo.physics import modify_model
from mjxppo.physics.messages import without_model_warnings


def make_one(gym_id: str, options: Mapping[str, Any], **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One environment of Gymnasium that takes actions in [-1, 1], where they are a vector, or of its own form.

    Observations of another shape are flattened (``gymnasium.wrappers.FlattenObservation``), and a mask in
    ``info["action_mask"]`` is one array of bool over the categories of all choices.

    ``options`` are those of ``gymnasium.make`` and the environment, and ``perturb``: changes of a MuJoCo environment's
    model, by factors, such as ``{"friction": 0.6, "mass": 1.15}`` (``randomize.changes.QUANTITIES``). ``kwargs`` are
    further arguments of ``gymnasium.make``.

    Raises:
        UserError: there is no such environment, or it refuses the options.
    """
    options = {name: value for name, value in options.items() if name != "vectorization_mode"}
    if "xml_file" in options:
        options["xml_file"] = model_file(options["xml_file"])
    changes = _checked_changes(options.pop("perturb", {}))
    try:
        with without_model_warnings():
            env = gymnasium.make(_importing(gym_id), **options, **kwargs)
    except (gymnasium.error.Error, ModuleNotFoundError, AssertionError) as error:  # it asserts what spaces are like
        raise UserError(f"env: {PREFIX}{gym_id}: {_first_line(error)}") from error
    except (TypeError, OSError, ValueError) as error:
        if not options:
            raise UserError(f"env: {PREFIX}{gym_id} cannot be made: {_first_line(error)}") from error
        raise UserError(f"env_options: {PREFIX}{gym_id} does not take these options: {_first_line(error)}") from error
    return adapted(env, changes)


def _importing(gym_id: str) -> str:
    """The id in the form in which Gymnasium first imports the module that registers it, where it is one of ours."""
    return f"mjxppo.gymnasium:{gym_id}" if gym_id.startswith(NAMESPACE) else gym_id


def adapted_in_process(
    env: gymnasium.Env[Any, Any], changes: Mapping[str, float], trainer: int
) -> gymnasium.Env[Any, Any]:
    """``adapted`` in a process of the environment's own, which goes on at Ctrl-C; ``trainer`` is the one that trains.

    A terminal sends Ctrl-C to all processes. The one that trains then finishes its device call, for which it needs the
    environments, and ends their processes itself.
    """
    if os.getpid() != trainer:  # Gymnasium makes one environment there too, to look at its spaces
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return adapted(env, changes)


def adapted(env: gymnasium.Env[Any, Any], changes: Mapping[str, float]) -> gymnasium.Env[Any, Any]:
    """The environment with its model changed, and in the form that ``make_one`` says."""
    change_model(env, changes, "env_options.perturb")
    name = _name(env)
    env = PlainResults(_flat(env, name))
    spec, space = action_spec(env.action_space, f"{PREFIX}{name}"), env.action_space
    if spec.categories:
        return _FlatMask(env, spec)
    if spec.form is not None or not isinstance(space, gymnasium.spaces.Box):
        return env
    if (space.low == -1).all() and (space.high == 1).all():
        return env
    return gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))


def change_model(env: gymnasium.Env[Any, Any], changes: Mapping[str, float], field: str) -> None:
    """Changes quantities of a MuJoCo environment's model by factors.

    Raises UserError, which begins with ``field``, where there are changes and the environment has no such model.
    """
    if not changes:
        return
    model = getattr(env.unwrapped, "model", None)
    if not isinstance(model, mujoco.MjModel):
        raise UserError(f"{field}: {PREFIX}{_name(env)} is no MuJoCo environment")
    modify_model(model, changed_fields(model, changes))


def _name(env: gymnasium.Env[Any, Any]) -> str:
    return env.spec.id if env.spec else type(env).__name__


def _flat(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    """The environment with observations that are vectors; raises UserError where they cannot be."""
    space = env.observation_space
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return env
    if not space.is_np_flattenable:
        raise UserError(f"env: the observations of {PREFIX}{name} cannot be made a vector: {space}")
    return gymnasium.wrappers.FlattenObservation(env)


class _FlatMask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose ``info["action_mask"]``, if it has one, is an array over the categories of all choices."""

    def __init__(self, env: gymnasium.Env[Any, Any], actions: ActionSpec):
        super().__init__(env)
        self._actions = actions

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        return obs, self._flattened(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, self._flattened(info)

    def _flattened(self, info: dict[str, Any]) -> dict[str, Any]:
        if MASK not in info:
            return info
        try:
            return info | {MASK: self._actions.flat_mask(info[MASK])}
        except (ValueError, AttributeError) as error:
            name = self.spec.id if self.spec else type(self.unwrapped).__name__
            raise UserError(f"env: {PREFIX}{name}: {error}") from error


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
