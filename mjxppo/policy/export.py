"""A trained policy in files that other programs read: NumPy arrays, ONNX, and StableHLO.

Every form holds the same function: the deterministic policy ``tanh(mean)`` of raw observations, with the observation
normaliser inside. A policy with a history is one of (observation, past) to (action, past). docs/export.md says how to
run each.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mjxppo.config.schema import Activation
from mjxppo.errors import UserError
from mjxppo.files import write_bytes
from mjxppo.policy.policy import Policy

if TYPE_CHECKING:
    from mjxppo.config.schema import Config

POLICY = "policy.npz"
FORMAT, FORMAT_WITH_HISTORY = 1, 2
"""Versions of what a .npz holds; raised when an older reader could misread it."""

# What ONNX Runtime has read since 2022; the onnx package's own newest is often ahead of the runtimes in use.
_ONNX_OPSET, _ONNX_IR = 17, 8


def export(policy: Policy, env: str, out: Path, env_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes ``policy`` to ``out`` in the format that its suffix names; an existing file is replaced at once.

    Args:
        policy: the deterministic policy.
        env: the task that it was trained on, kept in the file where the format has a place for it.
        out: a file ending in .npz, .onnx or .stablehlo.
        env_options: what of the task was changed; kept in a .npz.

    Returns:
        What was written, ready for JSON: path, format, env, obs_size, action_size, history.

    Raises:
        UserError: the suffix is none of these, the format's package is not installed, ``out`` cannot be written, or
            the policy needs what only the simulation knows.
    """
    check_output(out)
    policy.check_can_act_alone()
    name = out.suffix.lower().lstrip(".")
    write_bytes(out, _FORMATS[name](policy, env, dict(env_options or {})))
    return {
        "path": str(out),
        "format": name,
        "env": env,
        "obs_size": policy.obs_size,
        "action_size": policy.action_size,
        "history": policy.history,
    }


def check_output(out: Path) -> None:
    """Raises UserError where ``export`` could not write ``out``'s format, before anything is loaded for it."""
    name = out.suffix.lower().lstrip(".")
    if name not in _FORMATS:
        known = ", ".join(f".{known}" for known in _FORMATS)
        raise UserError(f"out: {out} ends in none of {known}, so its format is unknown")
    if name == "onnx":
        _import_onnx()


def is_exported(path: Path) -> bool:
    """Whether ``path`` names a policy that ``mjxppo export`` wrote for NumPy, by its suffix."""
    return path.suffix.lower() == ".npz" and not path.is_dir()


def _npz(policy: Policy, env: str, env_options: dict[str, Any]) -> bytes:
    """The arrays that docs/export.md lists; no pickled objects."""
    arrays: dict[str, Any] = {
        "format": np.int64(FORMAT if policy.history == 1 else FORMAT_WITH_HISTORY),
        "env": np.str_(env),
        "env_options": np.str_(json.dumps(env_options)),
        "activation": np.str_(policy.activation),
        "obs_mean": policy.obs_mean,
        "obs_scale": policy.obs_scale,
        "obs_clip": np.float32(policy.obs_clip),
    }
    if policy.history > 1:
        arrays["history"] = np.int64(policy.history)
    for i, (weight, bias) in enumerate(policy.layers):
        arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_npz(path: Path) -> Policy:
    """The policy in a .npz that ``export`` wrote. Nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it holds something else; the message names what is wrong.
    """
    return _policy(path, _read(path))


def read_with_task(path: Path) -> tuple[Policy, Config]:
    """The policy in a .npz, and the task that it was trained on, as a configuration that says nothing else.

    Raises:
        UserError: as ``read_npz``, or the task is none that this package knows by its name.
    """
    arrays = _read(path)
    return _policy(path, arrays), _task(path, arrays)


def _policy(path: Path, arrays: dict[str, np.ndarray]) -> Policy:
    try:
        return _from_arrays(arrays)
    except KeyError as error:
        raise UserError(f"{path}: is damaged: lacks {error.args[0]}") from error
    except ValueError as error:
        raise UserError(f"{path}: is damaged: {error}") from error


def _task(path: Path, arrays: dict[str, np.ndarray]) -> Config:
    from mjxppo.config.check import make_config

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
    if (found := arrays["format"].tolist()) not in (FORMAT, FORMAT_WITH_HISTORY):
        raise UserError(f"{path}: has format {found}, this version reads {FORMAT} and {FORMAT_WITH_HISTORY}")
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
    history = arrays["history"].tolist() if arrays["format"] == FORMAT_WITH_HISTORY else 1
    if not isinstance(history, int) or history < 1 or (mean.size + layers[-1][0].shape[1]) % history:
        raise ValueError(f"history is {history}")
    return Policy(mean, scale, float(clip), layers, activation, history)  # type: ignore[arg-type]


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UserError("out: .onnx files need the onnx package: pip install 'mjxppo[onnx]'") from error
    return onnx


def _onnx(policy: Policy, env: str, env_options: dict[str, Any]) -> bytes:
    """The policy as an ONNX model: "obs" float32 [batch, obs_size] to "action" float32 [batch, action_size].

    With a history also "past" to "next_past", each float32 [batch, inputs - obs_size].
    """
    onnx = _import_onnx()
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any, dtype: Any = np.float32) -> str:
        constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def tensor(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, float32, ["batch", size])

    x, past_size = "obs", policy.inputs - policy.obs_size
    inputs, outputs = [tensor("obs", policy.obs_size)], [tensor("action", policy.action_size)]
    if past_size:
        x = node("Concat", "obs", "past", output="seen", axis=1)
        inputs, outputs = [*inputs, tensor("past", past_size)], [*outputs, tensor("next_past", past_size)]
    x = node("Sub", x, constant("obs_mean", policy.obs_mean), output="centred")
    x = node("Mul", x, constant("obs_scale", policy.obs_scale), output="scaled")
    if np.isfinite(policy.obs_clip):
        bounds = constant("obs_min", -policy.obs_clip), constant("obs_max", policy.obs_clip)
        x = node("Clip", x, *bounds, output="normalized")
    for i, (weight, bias) in enumerate(policy.layers):
        x = node("Gemm", x, constant(f"weight_{i}", weight), constant(f"bias_{i}", bias), output=f"layer_{i}")
        if i == len(policy.layers) - 1:
            node("Tanh", x, output="action")
        elif policy.activation == "silu":
            x = node("Mul", x, node("Sigmoid", x, output=f"sigmoid_{i}"), output=f"hidden_{i}")
        else:
            operator = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}[policy.activation]
            x = node(operator, x, output=f"hidden_{i}")

    if past_size:
        x = node("Concat", "action", "seen", output="all", axis=1)
        where = [("from", 0), ("to", past_size), ("axis", 1)]
        node("Slice", x, *(constant(name, [value], np.int64) for name, value in where), output="next_past")
    graph = helper.make_graph(nodes, "policy", inputs, outputs, constants)
    opset = helper.make_opsetid("", _ONNX_OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_ONNX_IR, producer_name="mjxppo")
    helper.set_model_props(model, {"env": env})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _stablehlo(policy: Policy, env: str, env_options: dict[str, Any]) -> bytes:
    """The policy as ``jax.export`` serialises it: float32 [batch, obs_size] to [batch, action_size], CPU and CUDA.

    With a history, (observations, past) to (actions, next past).
    """
    import jax
    import jax.numpy as jnp
    from jax import export as jax_export

    from mjxppo.ppo.networks import ACTIVATIONS

    def act(seen: jax.Array) -> jax.Array:
        x = (seen - policy.obs_mean) * policy.obs_scale
        x = jnp.clip(x, -policy.obs_clip, policy.obs_clip)
        for i, (weight, bias) in enumerate(policy.layers):
            # GPUs would otherwise multiply in TF32, whose 10 bits of mantissa show in the actions.
            x = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias
            x = ACTIVATIONS[policy.activation](x) if i < len(policy.layers) - 1 else jnp.tanh(x)
        return x

    def act_and_remember(obs: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = jnp.concatenate([obs, past], axis=-1)
        action = act(seen)
        return action, jnp.concatenate([action, seen], axis=-1)[:, : past.shape[1]]

    (batch,) = jax_export.symbolic_shape("batch")
    sizes = (policy.obs_size, policy.inputs - policy.obs_size)
    obs, past = (jax.ShapeDtypeStruct((batch, size), jnp.float32) for size in sizes)
    program, given = (act_and_remember, (obs, past)) if policy.history > 1 else (act, (obs,))
    return bytes(jax_export.export(jax.jit(program), platforms=("cpu", "cuda"))(*given).serialize())


_FORMATS: dict[str, Callable[[Policy, str, dict[str, Any]], bytes]] = {
    "npz": _npz,
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}
