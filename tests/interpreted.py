"""A traced program, computed by NumPy one operation after the other: for tests of many small programs.

To compile the physics of one robot takes XLA seconds, to trace it takes a fraction of one. What is computed is the
program as JAX traced it, ``jax.make_jaxpr(function)``; what XLA makes of such a program is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vmap_call", "custom_vjp_call"}
"""Primitives that call a program of their own."""

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "tanh", "exp", "sqrt", "abs", "sign", "floor")},
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "not": np.invert,
    "log": np.log,
    "atan2": np.arctan2,
    "acos": np.arccos,
    "asin": np.arcsin,
    "div": lambda a, b: _div(a, b),
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "square": np.square,
    "copy": lambda a: a,
    "stop_gradient": lambda a: a,
    "is_finite": np.isfinite,
    "rem": np.fmod,
    "clamp": lambda low, a, high: np.minimum(np.maximum(a, low), high),
    "select_n": lambda which, *cases: (
        np.where(which, cases[1], cases[0]) if len(cases) == 2 else np.choose(which, cases)
    ),
}
"""NumPy's function for each of JAX's elementwise primitives. Their parameters say how to compile them."""
OPERATIONS: dict[str, Callable[..., Any]] = {
    "integer_pow": lambda a, y: a**y,
    "convert_element_type": lambda a, new_dtype, **_: np.asarray(a).astype(new_dtype),
    "broadcast_in_dim": lambda a, shape, broadcast_dimensions, **_: _broadcast(a, shape, broadcast_dimensions),
    "reshape": lambda a, new_sizes, **_: np.reshape(a, new_sizes),
    "squeeze": lambda a, dimensions: np.squeeze(a, dimensions),
    "expand_dims": lambda a, dimensions: np.expand_dims(a, dimensions),
    "transpose": lambda a, permutation: np.transpose(a, permutation),
    "rev": lambda a, dimensions: np.flip(a, dimensions),
    "concatenate": lambda *parts, dimension: np.concatenate(parts, dimension),
    "stack": lambda *parts, axis: np.stack(parts, axis),
    "iota": lambda dtype, shape, dimension, **_: _iota(dtype, shape, dimension),
    "reduce_sum": lambda a, axes, **_: np.sum(a, axes, dtype=np.asarray(a).dtype),
    "reduce_max": lambda a, axes, **_: np.max(a, axes),
    "reduce_min": lambda a, axes, **_: np.min(a, axes),
    "reduce_and": lambda a, axes, **_: np.all(a, axes),
    "reduce_or": lambda a, axes, **_: np.any(a, axes),
    "unstack": lambda a, axis: [np.take(a, i, axis) for i in range(np.shape(a)[axis])],
    "dot_general": lambda a, b, dimension_numbers, **_: _dot(a, b, *dimension_numbers),
    "argmin": lambda a, axes, index_dtype: np.argmin(a, axes[0]).astype(index_dtype),
    "argmax": lambda a, axes, index_dtype: np.argmax(a, axes[0]).astype(index_dtype),
    "slice": lambda a, start_indices, limit_indices, strides: a[
        tuple(map(slice, start_indices, limit_indices, strides or [None] * np.ndim(a)))
    ],
}
"""NumPy's function for other primitives; those that are missing are computed by JAX."""


def interpreted(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, traced by JAX and computed by NumPy, without warnings about NaN and infinity."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    with np.errstate(all="ignore"):
        results = _run(program, [np.asarray(x) for x in jax.tree.leaves(arguments)])
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


def _run(program: ClosedJaxpr, arguments: list[Any]) -> list[Any]:
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, map(np.asarray, program.consts), strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)
    for equation in jaxpr.eqns:
        inputs = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        results = _result(equation, inputs)
        values |= zip(equation.outvars, results if equation.primitive.multiple_results else [results], strict=True)
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _result(equation: Any, inputs: list[Any]) -> Any:
    name, params = equation.primitive.name, equation.params
    if name in ELEMENTWISE:
        return ELEMENTWISE[name](*inputs)
    if name in OPERATIONS:
        return OPERATIONS[name](*inputs, **params)
    if name in CALLS:
        return _run(_closed(next(params[p] for p in ("jaxpr", "call_jaxpr", "call") if p in params)), inputs)
    if name == "scan":
        return _scan(equation, inputs)
    if name == "while":
        return _while(inputs, **params)
    if name == "cond":
        which, *rest = inputs
        return _run(params["branches"][int(np.clip(which, 0, len(params["branches"]) - 1))], rest)
    if name in INDEXING:
        return INDEXING[name](equation, inputs)
    results = equation.primitive.bind(*map(jnp.asarray, inputs), **params)
    return jax.tree.map(np.asarray, results)


def _closed(program: Any) -> ClosedJaxpr:
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def _scan(equation: Any, inputs: list[Any]) -> list[Any]:
    """Shapes tell what is constant, carried or a sequence: parameters that say it vary between versions of JAX."""
    body, length = equation.params["jaxpr"], equation.params["length"]
    num_sequences = _count_longer(equation.invars, body.jaxpr.invars)
    num_carry = len(equation.outvars) - _count_longer(equation.outvars, body.jaxpr.outvars)
    first = len(inputs) - num_sequences
    constants, carry, sequences = inputs[: first - num_carry], inputs[first - num_carry : first], inputs[first:]
    rows: list[list[Any]] = []
    for i in reversed(range(length)) if equation.params["reverse"] else range(length):
        results = _run(body, [*constants, *carry, *(x[i] for x in sequences)])
        carry = results[:num_carry]
        rows.append(results[num_carry:])
    columns = list(zip(*(rows[::-1] if equation.params["reverse"] else rows), strict=True))
    return [*carry, *map(np.stack, columns)]


def _count_longer(outside: list[Any], inside: list[Any]) -> int:
    """How many values have one axis more outside of a loop than inside."""
    return sum(a.aval.ndim > b.aval.ndim for a, b in zip(outside, inside, strict=True))


def _while(inputs: list[Any], *, cond_jaxpr: Any, body_jaxpr: Any, cond_nconsts: int, body_nconsts: int):
    of_condition, of_body = inputs[:cond_nconsts], inputs[cond_nconsts : cond_nconsts + body_nconsts]
    carry = inputs[cond_nconsts + body_nconsts :]
    while _run(cond_jaxpr, [*of_condition, *carry])[0]:
        carry = _run(body_jaxpr, [*of_body, *carry])
    return carry


def _div(a: Any, b: Any) -> Any:
    """Of integers the quotient towards zero."""
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return np.divide(a, b)


def _broadcast(a: Any, shape: tuple[int, ...], dimensions: tuple[int, ...]) -> np.ndarray:
    sizes = [1] * len(shape)
    for size, dimension in zip(np.shape(a), dimensions, strict=True):
        sizes[dimension] = size
    return np.broadcast_to(np.reshape(a, sizes), shape)


def _iota(dtype: Any, shape: tuple[int, ...], dimension: int) -> np.ndarray:
    sizes = [1] * len(shape)
    sizes[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension], dtype=dtype).reshape(sizes), shape)


def _dot(a: np.ndarray, b: np.ndarray, contracted: Any, batched: Any) -> np.ndarray:
    """Axes have numbers: those of ``a`` come first, and those of ``b`` that belong to one of ``a`` have its number."""
    of_a, of_b = list(range(np.ndim(a))), list(range(np.ndim(a), np.ndim(a) + np.ndim(b)))
    for left, right in (contracted, batched):
        for i, j in zip(left, right, strict=True):
            of_b[j] = of_a[i]
    shared = [of_a[i] for i in batched[0]]
    free = [i for i in of_a if i not in of_b] + [i for i in of_b if i not in of_a]
    return np.einsum(a, of_a, b, of_b, shared + free)


def _gather(equation: Any, inputs: list[Any]) -> np.ndarray:
    operand, starts = inputs
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    window, dropped = numbers.offset_dims, numbers.collapsed_slice_dims
    batching = numbers.operand_batching_dims, numbers.start_indices_batching_dims
    shape = equation.outvars[0].aval.shape
    indices, inside = _indices(shape, operand.shape, starts, sizes, window, dropped, numbers.start_index_map, batching)
    found = operand[indices]
    if equation.params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP and not inside.all():
        fill = equation.params["fill_value"]
        default = np.nan if np.issubdtype(found.dtype, np.inexact) else np.iinfo(found.dtype).min
        found = np.where(inside, found, default if fill is None else fill)
    return found


def _scatter(combine: Any, equation: Any, inputs: list[Any]) -> np.ndarray:
    operand, starts, updates = inputs
    numbers = equation.params["dimension_numbers"]
    window, dropped = numbers.update_window_dims, numbers.inserted_window_dims
    batching = numbers.operand_batching_dims, numbers.scatter_indices_batching_dims
    kept = [d for d in range(np.ndim(operand)) if d not in dropped and d not in batching[0]]
    sizes = [1] * np.ndim(operand)
    for axis, dimension in zip(window, kept, strict=True):
        sizes[dimension] = np.shape(updates)[axis]
    shape, to_operand = np.shape(updates), numbers.scatter_dims_to_operand_dims
    indices, inside = _indices(shape, operand.shape, starts, sizes, window, dropped, to_operand, batching)
    result = np.array(operand)
    places = tuple(index[inside] for index in indices)
    if combine is None:
        result[places] = updates[inside]
    else:
        combine.at(result, places, updates[inside])
    return result


def _indices(
    shape: Any, operand: Any, starts: Any, sizes: Any, window: Any, dropped: Any, to_operand: Any, batching: Any
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The index along each of the operand's axes for each element of a result (or update) of a shape, and whether its
    slice lies inside."""
    batch_axes = [axis for axis in range(len(shape)) if axis not in window]
    kept = [d for d in range(len(operand)) if d not in dropped and d not in batching[0]]
    inside = np.ones(shape, bool)
    indices = []
    for d, extent in enumerate(operand):
        index = np.zeros(shape, int)
        if d in to_operand:
            start = np.asarray(starts)[..., to_operand.index(d)].astype(int)
            start = _broadcast(start, shape, tuple(batch_axes))
            inside &= (start >= 0) & (start <= extent - sizes[d])
            index = index + np.clip(start, 0, extent - sizes[d])
        if d in batching[0]:
            axis = batch_axes[batching[1][batching[0].index(d)]]
            index = index + _iota(int, shape, axis)
        if d in kept and sizes[d] > 1:
            index = index + _iota(int, shape, window[kept.index(d)])
        indices.append(index)
    return tuple(indices), inside


INDEXING: dict[str, Callable[..., Any]] = {
    "gather": _gather,
    "scatter": partial(_scatter, None),
    "scatter-add": partial(_scatter, np.add),
    "scatter-mul": partial(_scatter, np.multiply),
}
"""Reads and writes at computed places."""
