"""A policy as an ONNX model, for ONNX Runtime and what reads its format."""

from __future__ import annotations

from typing import Any

import numpy as np

from mjxppo.errors import UserError
from mjxppo.policy.policy import Policy

# ONNX Runtime has read these since 2022. The newest versions of the onnx package are often too new for it.
_OPSET, _IR_VERSION = 17, 8


def import_onnx() -> Any:
    """The ``onnx`` package, which is optional; raises UserError where it is not installed."""
    try:
        import onnx  # an optional package
    except ImportError as error:
        raise UserError("out: .onnx files need the onnx package: pip install 'mjxppo[onnx]'") from error
    return onnx


def to_onnx(policy: Policy, env: str) -> bytes:
    """The contents of an ONNX model: "obs" float32 [batch, obs_size] to "action" float32 [batch, action_size].

    With a history there is also "past" in and "next_past" out, each float32 [batch, inputs - obs_size]. With choices
    there is also "logits" out, float32 [batch, categories of all choices].
    """
    onnx = import_onnx()
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

    def part(x: str, start: int, end: int, output: str) -> str:
        """Columns from ``start`` to ``end`` of a matrix."""
        where = [("from", start), ("to", end), ("axis", 1)]
        bounds = (constant(f"{output}_{name}", [value], np.int64) for name, value in where)
        return node("Slice", x, *bounds, output=output)

    def likeliest(x: str) -> None:
        """The action, from the network's outputs: means, then logits."""
        spec = policy.actions
        if not spec.categories:
            node("Tanh", x, output="action")
            return
        outputs.append(tensor("logits", spec.logits))
        logits = part(x, spec.continuous, spec.continuous + spec.logits, "logits")
        parts = [node("Tanh", part(x, 0, spec.continuous, "means"), output="numbers")] if spec.continuous else []
        ends = np.cumsum(spec.categories).tolist()
        for i, (end, count) in enumerate(zip(ends, spec.categories, strict=True)):
            of_choice = part(logits, end - count, end, f"logits_{i}")
            chosen = node("ArgMax", of_choice, output=f"index_{i}", axis=1, keepdims=1)
            parts.append(node("Cast", chosen, output=f"choice_{i}", to=float32))
        node("Concat", *parts, output="action", axis=1)

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
            likeliest(x)
        elif policy.activation == "silu":
            x = node("Mul", x, node("Sigmoid", x, output=f"sigmoid_{i}"), output=f"hidden_{i}")
        else:
            operator = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}[policy.activation]
            x = node(operator, x, output=f"hidden_{i}")

    if past_size:
        x = node("Concat", "action", "seen", output="all", axis=1)
        part(x, 0, past_size, "next_past")
    graph = helper.make_graph(nodes, "policy", inputs, outputs, constants)
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="mjxppo")
    helper.set_model_props(model, {"env": env})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
