"""Demonstrations: observed states and the actions taken in them, from a .npz; the arrays are in docs/cloning.md."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mjxppo.envs.actions import ActionSpec
from mjxppo.errors import UserError
from mjxppo.files import write_bytes

FORMAT = 1
"""Version of the arrays; raised when an older reader could misread them."""
_NUMBERS = "fiub"
"""Kinds of NumPy's types that stand for numbers."""
_BEYOND = 1e-3
"""How far beyond its bounds, in units of half their distance, rounding may have moved an action."""


@dataclass(frozen=True)
class Demonstrations:
    """T steps of whole episodes, one after the other."""

    obs: np.ndarray
    """Observations before the steps, [T, obs_size] float32."""
    action: np.ndarray
    """Actions as vectors (``ActionSpec``), [T, action_size] float32."""
    start: np.ndarray
    """Whether an episode begins with this step, [T] bool; true for the first."""
    actions: ActionSpec
    """The parts of an action."""
    env: str | None = None
    """The task that they are of, if known."""
    reward: np.ndarray | None = None
    """Rewards of the steps, [T]; None: not known. Learning does not use them."""

    @property
    def episode(self) -> np.ndarray:
        """The number of each step's episode, from 0, [T]."""
        return np.cumsum(self.start) - 1

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return int(self.start.sum())

    def only(self, wanted: np.ndarray) -> Demonstrations:
        """The steps where ``wanted`` [T] bool, which has to be the same within each episode."""
        reward = None if self.reward is None else self.reward[wanted]
        return replace(self, obs=self.obs[wanted], action=self.action[wanted], start=self.start[wanted], reward=reward)

    def first(self, episodes: int) -> Demonstrations:
        """The first ``episodes``."""
        return self.only(self.episode < episodes)


def joined(parts: Sequence[Demonstrations]) -> Demonstrations:
    """All of them as one, without rewards; they are of one task."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("obs", "action", "start")
    }
    return replace(parts[0], **arrays, reward=None)


def write(path: Path, data: Demonstrations) -> None:
    """Writes a .npz that ``read`` reads; no pickled objects. Raises WriteFailed where it cannot."""
    numbers = data.actions.continuous
    arrays: dict[str, Any] = {
        "format": np.int64(FORMAT),
        "obs": data.obs,
        "action": data.action,
        "start": data.start,
        "action_low": np.full(numbers, -1, np.float32),
        "action_high": np.full(numbers, 1, np.float32),
        "categories": np.array(data.actions.categories, np.int64),
    }
    arrays |= {"env": np.str_(data.env)} if data.env is not None else {}
    arrays |= {"reward": data.reward} if data.reward is not None else {}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def read(path: Path) -> Demonstrations:
    """Reads demonstrations from a .npz. Nothing in the file is executed.

    Raises:
        UserError: there is no such file, it is damaged or empty, or holds numbers that are no demonstrations; the
            message names the array.
    """
    if path.suffix.lower() != ".npz":
        raise UserError(f"data: {path} must be a .npz of demonstrations, or a folder of Minari's")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise UserError(f"data: {path}: there is no such file") from error
    except Exception as error:  # damage shows in NumPy, in zipfile, in zlib, ...
        reason = getattr(error, "strerror", None) or "is no .npz of plain arrays, or is damaged; record it again"
        raise UserError(f"data: {path}: {reason}") from error
    if (found := arrays.get("format", np.int64(FORMAT))).tolist() != FORMAT:
        raise UserError(f"data: {path}: format is {found.tolist()!r}, and this version reads {FORMAT}")
    return from_arrays(str(path), arrays)


def from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> Demonstrations:
    """Checked demonstrations from the arrays of a .npz, see docs/cloning.md; ``name`` says in messages where from.

    Raises UserError, which names the first array that is missing or wrong.
    """
    for key in ("obs", "action"):
        if key not in arrays:
            raise UserError(f"data: {name}: lacks the array {key}; docs/cloning.md lists what it must hold")
    for key in {"obs", "action", "reward", "action_low", "action_high", "categories"} & set(arrays):
        _check_numbers(name, key, arrays[key])
    obs, action = arrays["obs"], arrays["action"]
    if not obs.size or not action.size:
        raise UserError(f"data: {name}: {'action' if obs.size else 'obs'} is empty; record at least one episode")
    if obs.ndim != 2:
        raise UserError(f"data: {name}: obs is {list(obs.shape)}, and must be [T, obs_size]")
    categories = tuple(int(count) for count in arrays.get("categories", np.zeros(0)).ravel())
    if any(count < 2 for count in categories):
        raise UserError(f"data: {name}: categories is {list(categories)}; a choice has at least 2")
    action = action[:, None] if action.ndim == 1 else action
    if action.ndim != 2 or action.shape[1] < len(categories):
        raise UserError(f"data: {name}: action is {list(action.shape)}, and must be [T, numbers and choices]")
    spec = ActionSpec(action.shape[1] - len(categories), categories)
    start = _starts(name, arrays, len(obs))
    for key in {"action", "reward"} & set(arrays):
        if len(arrays[key]) != len(obs):
            raise UserError(f"data: {name}: {key} has {len(arrays[key])} steps, and obs {len(obs)}; they must agree")
    if action.dtype.kind in "iub" and spec.continuous:
        raise UserError(f"data: {name}: action holds whole numbers; say of how many categories they are in categories")
    vectors = _vectors(name, arrays, action, spec)
    env, reward = arrays.get("env"), arrays.get("reward")
    return Demonstrations(obs.astype(np.float32), vectors, start, spec, None if env is None else str(env), reward)


def _check_numbers(name: str, key: str, array: np.ndarray) -> None:
    if array.dtype.kind not in _NUMBERS:
        raise UserError(f"data: {name}: {key} is an array of {array.dtype}, and must hold numbers")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32))
    if not finite.all():
        where = int(np.argwhere(~finite)[0][0])
        raise UserError(f"data: {name}: {key} is not finite at step {where}; leave that episode out")


def _starts(name: str, arrays: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
    """Where episodes begin, [T] bool, from ``start``, or from ``terminated`` and ``truncated``."""
    keys = ["start"] if "start" in arrays else ["terminated", "truncated"]
    for key in keys:
        if key not in arrays:
            raise UserError(f"data: {name}: lacks start, or terminated and truncated, which say where episodes begin")
        if arrays[key].shape != (steps,) or arrays[key].dtype.kind not in "biu":
            found = f"{arrays[key].dtype}{list(arrays[key].shape)}"
            raise UserError(f"data: {name}: {key} is {found}, and must be bool[{steps}], as obs has {steps} steps")
    if keys == ["start"]:
        start = arrays["start"].astype(bool)
        if not start[0]:
            raise UserError(f"data: {name}: start is false at step 0; an episode begins there")
        return start
    ends = arrays["terminated"].astype(bool) | arrays["truncated"].astype(bool)
    return np.concatenate([[True], ends[:-1]])


def _vectors(name: str, arrays: Mapping[str, np.ndarray], action: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Actions as the vectors of ``ActionSpec``, [T, action_size] float32, from those within their bounds."""
    size = spec.continuous
    low, high = arrays.get("action_low", np.full(size, -1.0)), arrays.get("action_high", np.full(size, 1.0))
    for key, bound in (("action_low", low), ("action_high", high)):
        if bound.shape != (size,):
            raise UserError(f"data: {name}: {key} is {list(bound.shape)}, and must be [{size}]")
    if not (low < high).all():
        raise UserError(f"data: {name}: action_low must be below action_high in each component")
    low, high = low.astype(np.float64), high.astype(np.float64)
    given = action[:, :size].astype(np.float64)
    numbers = np.where((low == -1) & (high == 1), given, (2 * given - low - high) / (high - low))
    if (np.abs(numbers) > 1 + _BEYOND).any():
        step, part = np.argwhere(np.abs(numbers) > 1 + _BEYOND)[0]
        raise UserError(
            f"data: {name}: action is {action[step, part]:.6g} in component {part} at step {step}, outside of "
            f"[{low[part]:g}, {high[part]:g}]; clip it, or give the bounds as action_low and action_high"
        )
    choices = action[:, size:]
    wrong = (choices != np.floor(choices)) | (choices < 0) | (choices >= np.array(spec.categories, int))
    if wrong.any():
        step, part = np.argwhere(wrong)[0]
        raise UserError(
            f"data: {name}: action is {choices[step, part]:g} in choice {part} at step {step}, and must be one of 0 to "
            f"{spec.categories[part] - 1}, as categories says"
        )
    return np.concatenate([np.clip(numbers, -1, 1), choices], axis=1).astype(np.float32)
