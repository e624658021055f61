"""mjxppo: GPU-native, end-to-end simulation training on MuJoCo models."""

from __future__ import annotations

from importlib import import_module as _import_module
from os import PathLike as _PathLike
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from mjxppo import xla as _xla

if _TYPE_CHECKING:
    from mjxppo import envs as envs
    from mjxppo import physics as physics
    from mjxppo.envs.registry import register as register
    from mjxppo.policy.policy import Policy
    from mjxppo.run.trained import TrainedRun as TrainedRun
    from mjxppo.run.trained import load_run as load_run
    from mjxppo.run.trained import train_policies as train_policies
    from mjxppo.run.trained import train_policy as train_policy

_xla.setup()

__version__ = "0.1.0"

__all__ = [
    *("TrainedRun", "envs", "load_policy", "load_run", "physics", "register", "train_policies", "train_policy"),
    "__version__",
]


def load_policy(path: str | _PathLike[str], best: bool = False) -> Policy:
    """A trained policy as a NumPy function: actions [..., action_size] for observations [..., obs_size].

    It is deterministic, normalises observations itself, and returns actions in [-1, 1].

    Args:
        path: a .npz that ``mjxppo export`` wrote, for which JAX is not imported; or a run directory, its ``ckpt/``,
            or one step's folder.
        best: take the policy of the run's best evaluation while training, instead of the newest.

    Raises:
        mjxppo.errors.UserError: it holds no policy; the message says what it holds.
    """
    from mjxppo.policy.npz import is_exported, read_npz  # brings in NumPy, which a bare import does without

    if is_exported(_Path(path)) and not best:
        return read_npz(_Path(path))
    from mjxppo.run.load import load  # brings JAX in, which an .npz does not need

    return load(_Path(path), best).policy


def __getattr__(name: str) -> object:
    if name in ("envs", "physics"):
        return _import_module(f"mjxppo.{name}")
    if name == "register":
        from mjxppo.envs.registry import register  # a bare import does without

        return register
    if name in ("TrainedRun", "load_run", "train_policies", "train_policy"):
        from mjxppo.run import trained  # brings JAX in, which a bare import does without

        return getattr(trained, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
