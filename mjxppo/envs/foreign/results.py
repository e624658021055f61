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

    Raises UserError, which names the part, where a result has not the form that it needs, or the environment fails.
    """
    what = "reset"
    try:
        begun, info = env.reset(seed=0)
        action = actions.decode(actions.first_allowed(info.get(MASK)))
        what = "step"
        stepped, _, _, _, told = env.step(action)
    except UserError:
        raise
    except Exception as error:  # whatever its author wrote, or Gymnasium's checks of it
        said = " ".join(str(error).split())
        raise UserError(f"env: {what} of {name} fails: {type(error).__name__}: {said}") from error
    for what, obs in (("reset", begun), ("step", stepped)):
        found, wanted = np.asarray(obs).dtype, env.observation_space.dtype
        if not np.can_cast(found, wanted or found, "same_kind"):
            raise UserError(f"env: the observation of {name} after {what} is of {found}; its space says {wanted}")
    if MASK in told and MASK not in info:
        raise UserError(f"env: {name} gives an {MASK} after step only; give it in the info of reset, too")
    return info


class PlainResults(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose reward is a float and whose ends are bools, also where it gives arrays of one number.

    Numbers of an observation beyond ``MAX_VALUE`` are bounded to it, in training and in evaluation.
    """

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**arguments)
        return self._plain("reset", obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        ends = bool(self._number("terminated", terminated)), bool(self._number("truncated", truncated))
        return self._plain("step", obs), float(self._number("reward", reward)), *ends, info

    def _plain(self, what: str, obs: Any) -> Any:
        """The observation, bounded; raises UserError, where it has not the shape of its space."""
        wanted = self.env.observation_space.shape
        if (obs.shape if isinstance(obs, np.ndarray) else np.shape(obs)) != wanted:
            raise UserError(
                f"env: the observation of {self._name} after {what} is {list(np.shape(obs))}; its space says "
                f"{list(wanted or ())}"
            )
        return _bounded(obs)

    @property
    def _name(self) -> str:
        return f"{PREFIX}{self.spec and self.spec.id}"

    def _number(self, what: str, x: Any) -> Any:
        """The number that a result is; raises UserError, which names ``what`` it is, where it is several or none."""
        if isinstance(x, float | bool):
            return x
        number = np.asarray(x)
        if number.size != 1:
            raise UserError(f"env: the {what} of {self._name} has shape {list(number.shape)}; it must be one number")
        if number.dtype.kind not in "biuf" and not (x is None and what != "reward"):
            raise UserError(f"env: the {what} of {self._name} is {x!r}; it must be a number")
        return number.item()


def _bounded(obs: Any) -> Any:
    """An observation with its numbers bounded, where it is an array of floats."""
    if not (isinstance(obs, np.ndarray) and obs.dtype.kind == "f" and obs.dtype.itemsize > 2):
        return obs
    # Of a short vector, a sum of squares is the fastest proof that nothing is too large: this is called in every step.
    if obs.ndim == 1 and np.dot(obs, obs) < MAX_VALUE**2:
        return obs
    return np.clip(obs, -MAX_VALUE, MAX_VALUE)
