"""mjxppo: GPU-native, end-to-end simulation training on MuJoCo models."""

from __future__ import annotations

from importlib import import_module as _import_module
from os import PathLike as _PathLike
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from mjxppo import xla as _xla

if _TYPE_CHECKING:
    from mjxppo.policy.policy import Policy
    from mjxppo.run.trained import TrainedRun as TrainedRun
    from mjxppo.run.trained import train_policies as train_policies
    from mjxppo.run.trained import train_policy as train_policy

_xla.setup()

__version__ = "0.1.0"


def load_policy(path: str | _PathLike[str]) -> Policy:
    """A trained policy as a NumPy function: actions [..., action_size] for observations [..., obs_size].

    It is deterministic, normalises observations itself, and returns actions in [-1, 1].

    Args:
        path: a .npz that ``mjxppo export`` wrote, for which JAX is not imported; or a run directory, its ``ckpt/``,
            or one step's folder.

    Raises:
        mjxppo.errors.UserError: it holds no policy; the message says what it holds.
    """
    from mjxppo.policy.npz import is_exported, read_npz  # brings in NumPy, which a bare import does without

    if is_exported(_Path(path)):
        return read_npz(_Path(path))
    from mjxppo.run.load import load  # brings JAX in, which an .npz does not need

    return load(_Path(path)).policy


def __getattr__(name: str) -> object:
    if name in ("envs", "physics"):
        return _import_module(f"mjxppo.{name}")
    if name in ("TrainedRun", "train_policies", "train_policy"):
        from mjxppo.run import trained  # brings JAX in, which a bare import does without

        return getattr(trained, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
