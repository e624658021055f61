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
    graph = _Graph()
    x, past_size = "obs", policy.inputs - policy.obs_size
    inputs, outputs = {"obs": policy.obs_size}, {"action": policy.action_size}
    if past_size:
        x = graph.node("Concat", "obs", "past", output="seen", axis=1)
        inputs, outputs = inputs | {"past": past_size}, outputs | {"next_past": past_size}
    if policy.actions.categories:
        outputs["logits"] = policy.actions.logits
    _add_action(graph, policy, _add_network(graph, policy, x))
    if past_size:
        graph.part(graph.node("Concat", "action", "seen", output="all", axis=1), 0, past_size, "next_past")
    return graph.model(inputs, outputs, env)


class _Graph:
    """A graph of operators; each has one output, by the name of which it goes."""

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def part(self, x: str, start: int, end: int, output: str) -> str:
        """Columns from ``start`` to ``end`` of a matrix."""
        where = [("from", start), ("to", end), ("axis", 1)]
        bounds = (self.constant(f"{output}_{name}", [value], np.int64) for name, value in where)
        return self.node("Slice", x, *bounds, output=output)

    def model(self, inputs: dict[str, int], outputs: dict[str, int], env: str) -> bytes:
        """The model of matrices float32 [batch, size], each by its name and size."""
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        given, left = (
            [helper.make_tensor_value_info(name, float32, ["batch", size]) for name, size in tensors.items()]
            for tensors in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "policy", given, left, self.constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="mjxppo")
        helper.set_model_props(model, {"env": env})
        self.onnx.checker.check_model(model, full_check=True)
        contents: bytes = model.SerializeToString()
        return contents


def _add_network(graph: _Graph, policy: Policy, x: str) -> str:
    """The network's outputs, from what it sees."""
    x = graph.node("Sub", x, graph.constant("obs_mean", policy.obs_mean), output="centred")
    x = graph.node("Mul", x, graph.constant("obs_scale", policy.obs_scale), output="scaled")
    if np.isfinite(policy.obs_clip):
        bounds = graph.constant("obs_min", -policy.obs_clip), graph.constant("obs_max", policy.obs_clip)
        x = graph.node("Clip", x, *bounds, output="normalized")
    for i, (weight, bias) in enumerate(policy.layers):
        affine = graph.constant(f"weight_{i}", weight), graph.constant(f"bias_{i}", bias)
        x = graph.node("Gemm", x, *affine, output=f"layer_{i}")
        if i == len(policy.layers) - 1:
            break
        if policy.activation == "silu":
            x = graph.node("Mul", x, graph.node("Sigmoid", x, output=f"sigmoid_{i}"), output=f"hidden_{i}")
        else:
            operator = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}[policy.activation]
            x = graph.node(operator, x, output=f"hidden_{i}")
    return x


def _add_action(graph: _Graph, policy: Policy, x: str) -> None:
    """The likeliest action, from the network's outputs: means, then logits."""
    spec = policy.actions
    if not spec.categories:
        graph.node("Tanh", x, output="action")
        return
    logits = graph.part(x, spec.continuous, spec.continuous + spec.logits, "logits")
    parts: list[str] = []
    if spec.continuous:
        parts.append(graph.node("Tanh", graph.part(x, 0, spec.continuous, "means"), output="numbers"))
    ends = np.cumsum(spec.categories).tolist()
    for i, (end, count) in enumerate(zip(ends, spec.categories, strict=True)):
        of_choice = graph.part(logits, end - count, end, f"logits_{i}")
        chosen = graph.node("ArgMax", of_choice, output=f"index_{i}", axis=1, keepdims=1)
        parts.append(graph.node("Cast", chosen, output=f"choice_{i}", to=graph.onnx.TensorProto.FLOAT))
    graph.node("Concat", *parts, output="action", axis=1)
