"""mjxppo: GPU-native, end-to-end simulation training on MuJoCo models."""

from __future__ import annotations

from os import PathLike as _PathLike
from typing import TYPE_CHECKING as _TYPE_CHECKING

from mjxppo import runtime as _runtime

if _TYPE_CHECKING:
    from mjxppo.api import TrainedRun as TrainedRun
    from mjxppo.api import train_policies as train_policies
    from mjxppo.api import train_policy as train_policy
    from mjxppo.policy import Policy

_runtime.setup()

__version__ = "0.1.0"


def load_policy(path: str | _PathLike[str]) -> Policy:
    """A trained policy as a NumPy function: actions [..., action_size] for observations [..., obs_size].

    It is deterministic, normalises observations itself, and gives actions in [-1, 1].

    Args:
        path: a .npz that ``mjxppo export`` wrote, for which JAX is not imported; or a run directory, its ``ckpt/``,
            or one step's folder.

    Raises:
        mjxppo.errors.UserError: it holds no policy; the message says what it holds.
    """
    from mjxppo.export import load_policy as load

    return load(path)


def __getattr__(name: str) -> object:
    if name in ("TrainedRun", "train_policies", "train_policy"):  # bring JAX in, which a bare import does not
        from mjxppo import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
