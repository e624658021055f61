"""A policy as a .npz file of NumPy arrays. Reading one and acting with it needs neither JAX nor a configuration."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mjxppo.config.schema import Activation, Config
from mjxppo.envs.actions import ActionSpec
from mjxppo.errors import UserError
from mjxppo.policy import robot_files
from mjxppo.policy.policy import Policy

FORMAT, FORMAT_WITH_HISTORY, FORMAT_WITH_CHOICES = 1, 2, 3
"""Versions of the arrays in a .npz; raised when an older reader could misread them."""


def is_exported(path: Path) -> bool:
    """Whether ``path`` names a policy that ``mjxppo export`` wrote for NumPy, by its suffix."""
    return path.suffix.lower() == ".npz" and not path.is_dir()


def to_npz(policy: Policy, env: str, env_options: dict[str, Any]) -> bytes:
    """The contents of a .npz file with the arrays that docs/export.md lists; no pickled objects."""
    version = FORMAT if policy.history == 1 else FORMAT_WITH_HISTORY
    arrays: dict[str, Any] = {
        "format": np.int64(version if policy.spec is None else FORMAT_WITH_CHOICES),
        "env": np.str_(env),
        "env_options": np.str_(json.dumps(env_options)),
        "model": np.str_(json.dumps(robot_files.hashes(env_options.get("xml_file")))),
        "activation": np.str_(policy.activation),
        "obs_mean": policy.obs_mean,
        "obs_scale": policy.obs_scale,
        "obs_clip": np.float32(policy.obs_clip),
    }
    if policy.history > 1:
        arrays["history"] = np.int64(policy.history)
    if policy.spec is not None:
        arrays["actions"] = np.str_(policy.spec.to_json())
    for i, (weight, bias) in enumerate(policy.layers):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_npz(path: Path) -> Policy:
    """Reads the policy in a .npz that ``export`` wrote. Nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it holds something else; the message names what is wrong.
    """
    return _policy(path, _read(path))


def read_with_task(path: Path) -> tuple[Policy, Config]:
    """Reads the policy in a .npz, and the task that it was trained on as a configuration with defaults elsewhere.

    Raises:
        UserError: as ``read_npz``; or the file names no task or one that this package does not know.
    """
    arrays = _read(path)
    return _policy(path, arrays), _task(path, arrays)


def model_change(path: Path) -> str | None:
    """What has changed of the model file of a .npz's robot since it was written, as a message; None where nothing has.

    Raises UserError as ``read_npz``.
    """
    try:
        files = json.loads(str(_read(path).get("model", "{}")))
        return robot_files.what_changed(dict(files), f"{path} was exported")
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged: its hashes of model files cannot be read") from error


def _policy(path: Path, arrays: dict[str, np.ndarray]) -> Policy:
    try:
        return _from_arrays(arrays)
    except KeyError as error:
        raise UserError(f"{path}: is damaged: lacks {error.args[0]}") from error
    except ValueError as error:
        raise UserError(f"{path}: is damaged: {error}") from error


def _task(path: Path, arrays: dict[str, np.ndarray]) -> Config:
    from mjxppo.config.check import make_config  # its libraries are not needed to act

    try:
        options = json.loads(str(arrays.get("env_options", "{}")))
        values = {"env": str(arrays["env"]), "env_options": options}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is damaged: does not say which task it is for") from error
    try:
        return make_config(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz that ``export`` may have written; raises UserError as ``read_npz``."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"{path}: is no policy written by mjxppo export, or is damaged") from error
    if "format" not in arrays:
        raise UserError(f"{path}: is no policy written by mjxppo export")
    if (found := arrays["format"].tolist()) not in (FORMAT, FORMAT_WITH_HISTORY, FORMAT_WITH_CHOICES):
        raise UserError(f"{path}: has format {found}, this version reads {FORMAT} to {FORMAT_WITH_CHOICES}")
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> Policy:
    """The policy in a .npz's arrays.

    Raises:
        KeyError: an array is missing.
        ValueError: an array does not fit the others; says which.
    """
    activation = str(arrays["activation"])
    if activation not in get_args(Activation):
        raise ValueError(f"activation is {activation!r}")
    mean, scale, clip = (arrays[name] for name in ("obs_mean", "obs_scale", "obs_clip"))
    num_layers = max(sum(name.startswith("weight_") for name in arrays), 1)
    layers = tuple((arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(num_layers))
    expected: list[tuple[str, tuple[int, ...]]] = [("obs_mean", mean.shape[:1]), ("obs_scale", mean.shape)]
    width = mean.size
    for i, (weight, _) in enumerate(layers):
        outputs = weight.shape[-1] if weight.ndim else 0
        expected += [(f"weight_{i}", (width, outputs)), (f"bias_{i}", (outputs,))]
        width = outputs
    for name, shape in [*expected, ("obs_clip", ())]:
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
            raise ValueError(f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, not float32{list(shape)}")
    spec = ActionSpec.from_json(str(arrays["actions"])) if arrays["format"] == FORMAT_WITH_CHOICES else None
    outputs, action_size = layers[-1][0].shape[1], layers[-1][0].shape[1]
    if spec is not None:
        action_size = spec.size
        if outputs != spec.continuous + spec.logits:
            raise ValueError(f"actions are {spec}, and the network has {outputs} outputs")
    has_history = arrays["format"] == FORMAT_WITH_HISTORY or (spec is not None and "history" in arrays)
    history = arrays["history"].tolist() if has_history else 1
    if not isinstance(history, int) or history < 1 or (mean.size + action_size) % history:
        raise ValueError(f"history is {history}")
    return Policy(mean, scale, float(clip), layers, activation, history, spec=spec)  # type: ignore[arg-type]
