"""What the gradient's kernel is given: places of the matrices in the flat parameters, and the numbers of a step."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import jax

from mjxppo.ppo.networks import ActorCritic, Params

Array = jax.Array

TENSOR_CORE = 16
"""Least number of rows and columns of a matrix in a product on tensor cores."""


class Matrix(NamedTuple):
    """A matrix's place in the flat parameters: element (i, j) at ``offset + i * stride + j``."""

    offset: int
    rows: int
    cols: int
    stride: int
    padded: tuple[int, int]
    """Rows and columns that it has in the kernel, those beyond its own 0: powers of two."""


class Layer(NamedTuple):
    """An affine layer; a bias is a matrix of one row."""

    kernel: Matrix
    bias: Matrix


class Mlp(NamedTuple):
    """Hidden layers, and the linear heads that share the last of them."""

    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]


class Layout(NamedTuple):
    """Places of both networks' parameters in the flat vector, which is ``ravel_pytree``'s."""

    actor: Mlp
    """Heads: the mean and, with a state-dependent std, what the log-std is computed from."""
    critic: Mlp
    log_std: Matrix | None
    """A state-independent std's parameter, one row."""
    size: int
    """Number of parameters."""


class Step(NamedTuple):
    """Numbers that the kernel takes besides parameters and samples, each []."""

    divisor: Array
    """Valid samples in the minibatch divided by the number of devices, ``count`` of ``losses.loss``."""
    kl_penalty: Array
    advantage_mean: Array | float = 0.0
    """Subtracted from the advantages, ..."""
    advantage_scale: Array | float = 1.0
    """... which are then multiplied by this."""


def layout(network: ActorCritic, params: Params, obs_size: int) -> Layout:
    """Places of the parameters of ``network``, whose shapes ``params`` has, in ``ravel_pytree(params)``."""
    leaves, structure = jax.tree.flatten(params)
    *offsets, size = accumulate((leaf.size for leaf in leaves), initial=0)
    places = zip(leaves, offsets, strict=True)
    tree = jax.tree.unflatten(structure, [_matrix(leaf.shape, offset) for leaf, offset in places])["params"]
    heads = 2 if network.std == "state_dependent" else 1
    return Layout(
        actor=_mlp(tree["actor"]["mlp"], heads, obs_size),
        critic=_mlp(tree["critic"], 1, obs_size),
        log_std=tree["actor"].get("log_std"),
        size=size,
    )


def _mlp(tree: dict[str, Any], num_heads: int, obs_size: int) -> Mlp:
    """The layers of a ``networks.Mlp``, whose head's outputs are those of ``num_heads`` heads side by side."""
    first, *others = (Layer(**tree[f"hidden_{i}"]) for i in range(len(tree) - 1))
    # A network that does not take privileged observations has no rows for them: they are padding.
    shape = padded(obs_size), first.kernel.padded[1]
    hidden = (first._replace(kernel=first.kernel._replace(padded=shape)), *others)
    each = tree["head"]["bias"].cols // num_heads
    heads = ({name: _columns(m, i * each, each) for name, m in tree["head"].items()} for i in range(num_heads))
    return Mlp(hidden, tuple(Layer(**head) for head in heads))


def _matrix(shape: tuple[int, ...], offset: int) -> Matrix:
    """The place of an array of this shape, a vector or a matrix."""
    rows, cols = shape if len(shape) == 2 else (1, shape[0])
    return Matrix(offset, rows, cols, cols, (padded(rows) if len(shape) == 2 else 1, padded(cols)))


def _columns(matrix: Matrix, first: int, count: int) -> Matrix:
    """``count`` columns of a matrix from ``first`` on."""
    rows = matrix.padded[0]
    return matrix._replace(offset=matrix.offset + first, cols=count, padded=(rows, padded(count)))


def padded(size: int) -> int:
    """The power of two that ``size`` rows or columns are padded to, at least what tensor cores need."""
    return max(TENSOR_CORE, 1 << (size - 1).bit_length())
