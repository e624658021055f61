"""Demonstrations from a folder that Minari has written (https://minari.farama.org), HDF5 with JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mjxppo.envs.registry import GYMNASIUM, TASKS
from mjxppo.errors import UserError
from mjxppo.policy.demonstrations import Demonstrations, from_arrays

_FILES = "metadata.json", "main_data.hdf5"


def is_minari(path: Path) -> bool:
    """Whether ``path`` is a folder, which a .npz is not."""
    return path.is_dir()


def read_minari(path: Path) -> Demonstrations:
    """Reads a data set in the folder that Minari keeps it in, or in that folder's ``data``. Needs h5py.

    Actions within a ``Box`` are scaled to [-1, 1]. Nothing in the files is executed.

    Raises:
        UserError: h5py is not installed, files are missing or damaged, or spaces are of other kinds; names the part.
    """
    try:
        import h5py  # optional
    except ImportError as error:
        raise UserError(
            f"data: {path} is read with h5py, which is not installed: pip install 'mjxppo[minari]'"
        ) from error
    folder = path / "data" if (path / "data").is_dir() else path
    for name in _FILES:
        if not (folder / name).is_file():
            raise UserError(f"data: {path}: lacks {name} of a Minari data set in its format hdf5")
    try:
        about = json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))
        space = json.loads(about["action_space"])
        env = json.loads(about["env_spec"])["id"] if about.get("env_spec") else None
        described = _bounds(str(path), space)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"data: {path}: metadata.json is damaged; download or create the data set again") from error
    try:
        with h5py.File(folder / _FILES[1], "r") as file:
            names = sorted((name for name in file if name.startswith("episode_")), key=lambda name: int(name[8:]))
            episodes = [_episode(str(path), file[name]) for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"data: {path}: main_data.hdf5 is damaged ({' '.join(str(error).split())[:80]}); create it again"
        ) from error
    if not episodes:
        raise UserError(f"data: {path}: main_data.hdf5 has no episodes; record at least one")
    arrays: dict[str, Any] = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    arrays["action"] = arrays["action"].reshape(len(arrays["action"]), -1) - described.pop("first", 0)
    if env is not None:
        known = {entry.gym_id for entry in TASKS.values()}
        arrays["env"] = np.str_(env if env in known else f"{GYMNASIUM}:{env}")
    return from_arrays(str(path), arrays | described)


def _episode(name: str, group: Any) -> dict[str, np.ndarray]:
    """The arrays of one episode, without the observation after its last step."""
    for key in ("observations", "actions"):
        if not hasattr(group[key], "shape"):
            raise UserError(f"data: {name}: {key} are a Dict or a Tuple; flatten them into one vector first")
    action = group["actions"][()]
    obs = group["observations"][()]
    if len(obs) != len(action) + 1:
        raise UserError(
            f"data: {name}: {group.name} has {len(obs)} observations for {len(action)} actions; it has to have one more"
        )
    start = np.arange(len(action)) == 0
    return {
        "obs": obs[:-1].reshape(len(action), int(np.prod(obs.shape[1:]))),
        "action": action,
        "start": start,
        "reward": group["rewards"][()],
    }


def _bounds(name: str, space: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a .npz that describe Minari's action space; ``first`` is the number of the first category."""
    kind = space["type"]
    if kind == "Box":
        low, high = (np.array(space[key], np.float64).ravel() for key in ("low", "high"))
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise UserError(f"data: {name}: action_space has no bounds, which [-1, 1] could stand for")
        return {"action_low": low, "action_high": high}
    if kind == "Discrete":
        return {"categories": np.array([int(space["n"])]), "first": int(space.get("start", 0))}
    if kind == "MultiDiscrete":
        counts = np.array(space["nvec"], int).ravel()
        return {"categories": counts, "first": np.array(space.get("start", 0 * counts), int).ravel()}
    raise UserError(f"data: {name}: action_space is a {kind}; Box, Discrete and MultiDiscrete can be cloned")
