"""The own kernels of this package in a traced program: their programs, warps and operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

_FREE = frozenset(
    [
        "broadcast_in_dim",
        "reshape",
        "squeeze",
        "slice",
        "concatenate",
        "iota",
        "convert_element_type",
        "copy",
        "transpose",
        "swap",
        "get",
        "addupdate",
        "masked_load",
        "masked_swap",
        "stop_gradient",
        "pjit",
    ]
)
"""Primitives that move or name numbers and compute none."""


@dataclass(frozen=True)
class TracedKernel:
    """A Pallas kernel of a traced program."""

    name: str
    programs: int
    warps: int
    operations: float
    """Operations of one program, without those of products of matrices."""
    products: float
    """Operations of one program in products of matrices, which tensor cores do."""


def kernels_of(traced: Any, iterations: float) -> dict[str, TracedKernel]:
    """The Pallas kernels of a traced function (``jax.stages.Traced``), by name.

    A loop in a kernel whose length is not known runs ``iterations`` times.
    """
    found = {}
    for equation in _equations(traced.jaxpr.jaxpr):
        if equation.primitive.name == "pallas_call":
            kernel = _kernel(equation, iterations)
            found[kernel.name] = kernel
    return found


def _kernel(equation: Any, iterations: float) -> TracedKernel:
    params = equation.params
    name = params.get("name") or getattr(params.get("name_and_src_info"), "name", None)  # JAX 0.12, before
    options = params.get("compiler_params")
    warps = getattr(options, "num_warps", None) or _in_mapping(options, "num_warps") or 4
    return TracedKernel(
        name=str(name),
        programs=math.prod(params["grid_mapping"].grid),
        warps=int(warps),
        operations=_operations(params["jaxpr"], iterations, products=False),
        products=_operations(params["jaxpr"], iterations, products=True),
    )


def _in_mapping(options: Any, name: str) -> Any:
    if not isinstance(options, dict):
        return None
    return next((getattr(value, name) for value in options.values() if getattr(value, name, None)), None)


def _operations(jaxpr: Any, iterations: float, products: bool) -> float:
    """Operations of a jaxpr, in products of matrices or in all else; of a branch those of the longest."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [_operations(each, iterations, products) for each in _inner(equation)]
        if name == "while":
            total += iterations * sum(inner)
        elif name == "scan":
            total += equation.params["length"] * sum(inner)
        elif name == "cond":
            total += max(inner, default=0.0)
        elif inner:
            total += sum(inner)
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += products * 2 * terms * math.prod(equation.outvars[0].aval.shape)
        elif name not in _FREE and not products:
            total += max(
                (math.prod(out.aval.shape) for out in equation.outvars if hasattr(out.aval, "shape")), default=0
            )
    return total


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a jaxpr and of those within it, except within kernels."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name != "pallas_call":
            for inner in _inner(equation):
                yield from _equations(inner)


def _inner(equation: Any) -> list[Any]:
    """The jaxprs among an equation's parameters."""
    found = []
    for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            found.append(value)
    return found
