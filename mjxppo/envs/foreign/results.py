"""What an environment of Gymnasium gives after each step, in the form that this package takes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.batch import MAX_VALUE
from mjxppo.errors import UserError

PREFIX = "gymnasium:"
MASK = "action_mask"
"""The entry of Gymnasium's ``info`` that says which categories may be chosen, as in Taxi-v4."""


def check_results(env: gymnasium.Env[Any, Any], name: str, actions: ActionSpec) -> dict[str, Any]:
    """Takes one step; returns the ``info`` of the reset before it.

    Raises UserError, which names the part, where a result has not the shape that it needs.
    """
    begun, info = env.reset(seed=0)
    stepped = env.step(actions.decode(actions.first_allowed(info.get(MASK))))[0]
    wanted = list(env.observation_space.shape or ())
    for what, obs in (("reset", begun), ("step", stepped)):
        if list(np.shape(obs)) != wanted:
            found = list(np.shape(obs))
            raise UserError(f"env: the observation of {name} after {what} is {found}; its space says {wanted}")
    return info


class PlainResults(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose reward is a float and whose ends are bools, also where it gives arrays of one number.

    Numbers of an observation beyond ``MAX_VALUE`` are bounded to it, in training and in evaluation.
    """

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**arguments)
        return _bounded(obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        ends = bool(self._number("terminated", terminated)), bool(self._number("truncated", truncated))
        return _bounded(obs), float(self._number("reward", reward)), *ends, info

    def _number(self, what: str, x: Any) -> Any:
        """The number that a result is; raises UserError, which names ``what`` it is, where it is several or none."""
        if isinstance(x, float | bool):
            return x
        if np.size(x) != 1:
            name = f"{PREFIX}{self.spec and self.spec.id}"
            raise UserError(f"env: the {what} of {name} has shape {list(np.shape(x))}; it must be one number")
        return np.asarray(x).item()


def _bounded(obs: Any) -> Any:
    """An observation with its numbers bounded, where it is an array of floats."""
    if not (isinstance(obs, np.ndarray) and obs.dtype.kind == "f" and obs.dtype.itemsize > 2):
        return obs
    # Of a short vector, a sum of squares is the fastest proof that nothing is too large: this is called in every step.
    if obs.ndim == 1 and np.dot(obs, obs) < MAX_VALUE**2:
        return obs
    return np.clip(obs, -MAX_VALUE, MAX_VALUE)
