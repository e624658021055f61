"""Export of a trained policy to a file for other programs: NumPy arrays, ONNX or StableHLO.

Every format holds the same function: the likeliest action, ``tanh(mean)`` and the category with the largest logit, of
raw observations, with the observation normaliser inside. A policy with a history is a function of (observation, past)
to (action, past). docs/export.md says how to run each format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mjxppo.errors import UserError
from mjxppo.files import write_bytes
from mjxppo.policy.npz import to_npz
from mjxppo.policy.onnx import import_onnx, to_onnx
from mjxppo.policy.policy import Policy

POLICY = "policy.npz"
"""Name of the file that ``mjxppo export`` writes by default."""
_FORMATS = ("npz", "onnx", "stablehlo")


def export(policy: Policy, env: str, out: Path, env_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes ``policy`` to ``out`` in the format that its suffix names; an existing file is replaced at once.

    ``env``, the task that it was trained on, is kept in .npz and .onnx files; ``env_options``, the task options that
    were set, in .npz files. Returns path, format, env, obs_size, action_size and history, ready for JSON.

    Raises:
        UserError: the suffix is none of these, the format's package is not installed, ``out`` cannot be written, or
            the policy has privileged observations.
    """
    name = check_output(out)
    policy.check_can_act_alone()
    write_bytes(out, _encode(name, policy, env, dict(env_options or {})))
    return {
        "path": str(out),
        "format": name,
        "env": env,
        "obs_size": policy.obs_size,
        "action_size": policy.action_size,
        "history": policy.history,
    }


def check_output(out: Path) -> str:
    """The format that ``out``'s suffix names: npz, onnx or stablehlo.

    Raises:
        UserError: the suffix names none of them, or the format's package is not installed.
    """
    name = out.suffix.lower().lstrip(".")
    if name not in _FORMATS:
        known = ", ".join(f".{known}" for known in _FORMATS)
        raise UserError(f"out: {out} ends in none of {known}, so its format is unknown")
    if name == "onnx":
        import_onnx()
    return name


def _encode(name: str, policy: Policy, env: str, env_options: dict[str, Any]) -> bytes:
    """The contents of the file in the format ``name``."""
    if name == "npz":
        return to_npz(policy, env, env_options)
    if name == "onnx":
        return to_onnx(policy, env)
    from mjxppo.policy.stablehlo import to_stablehlo  # imports JAX, which the other formats and checks do not need

    return to_stablehlo(policy)
