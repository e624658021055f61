"""Forward and backward pass of actor and critic as one GPU kernel (JAX Pallas, lowered to Triton).

Each program of the grid takes tiles of samples through both networks, through the loss (``losses.loss_of_outputs``
and its derivative by JAX), and back. It stores its part of the flat gradient and of the loss terms; XLA adds the parts
up, in a fixed order. Samples are read from where the rollout left them, by the indices of the drawn slices.

Products are rounded like those of XLA on a GPU: factors to TF32 (10 bits of mantissa), sums in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo import losses
from mjxppo.ppo.fused.layout import Layer, Layout, Matrix, Mlp, Step, padded
from mjxppo.ppo.heads import Gaussian
from mjxppo.ppo.networks import ACTIVATIONS, ActorCritic, state_dependent_log_std

Array = jax.Array
Load = Callable[[Matrix], Array]
Store = Callable[[Matrix, Array], None]

TILE = 32
"""Samples that a program takes through the networks together."""
MAX_PROGRAMS = 264
"""Programs of a launch: all that an H200 runs at the same time, two on each of 132 multiprocessors. In larger
minibatches each takes several tiles, so that parts of the gradient take no more memory."""
SWEPT = ("clip_eps", "value_coef", "entropy_coef")
"""Settings of the loss that may be arrays [], because the members of a run may differ in them."""


def actor_critic(
    flat: Array,
    network: ActorCritic,
    layout: Layout,
    rows: losses.Samples,
    chosen: Array,
    width: int,
    step: Step,
    config: PpoConfig,
    interpret: bool = False,
) -> tuple[Array, losses.LossTerms]:
    """Gradient [P] and loss terms of a minibatch, as ``fused.gradient``; ``rows`` are all samples, arrays [N, ...].

    Slice k, ``width`` samples, begins at sample ``k * width``.
    """
    tiles = pl.cdiv(chosen.size * width, TILE)
    tiles_each = pl.cdiv(tiles, MAX_PROGRAMS)
    programs = pl.cdiv(tiles, tiles_each)
    terms, terms_tree = jax.tree.flatten(losses.LossTerms(*jnp.zeros(5)))
    row_size = layout.size + len(terms) + 1  # the last is not used, see _accumulator
    swept = {name: getattr(config, name) for name in SWEPT if isinstance(getattr(config, name), Array)}
    scalars = jnp.stack([jnp.float32(x) for x in (*step, *swept.values())])

    def program(scalars_ref: Any, flat_ref: Any, chosen_ref: Any, zero_ref: Any, *refs: Any) -> None:
        *sample_refs, out_ref = refs
        sample_refs = jax.tree.unflatten(jax.tree.structure(rows), sample_refs)
        numbers = [scalars_ref[i] for i in range(scalars.size)]
        own_step = Step(*numbers[: len(step)])
        own_config = replace(config, **dict(zip(swept, numbers[len(step) :], strict=True)))
        own = pl.program_id(0)

        def one_tile(i: Array | int, _: None) -> None:
            # Read again for each tile. Otherwise the compiler computes all places once, and keeps them in registers.
            origin = triton.load(zero_ref.at[jnp.zeros_like(own)], volatile=True) if tiles_each > 1 else 0
            load = _parameters(flat_ref, origin)
            store = _accumulator(out_ref, own, origin, None if tiles_each == 1 else i == 0, interpret)
            samples = _tile_of(sample_refs, chosen_ref, own * tiles_each + i, width, own_step)
            of_tile = _backward(network, layout, samples, load, store, own_step, own_config)
            for k, term in enumerate(jax.tree.leaves(of_tile)):
                store(Matrix(layout.size + k, 1, 1, 1, (1, 1)), term.reshape(1, 1))
            if tiles_each > 1 and not interpret:
                triton.debug_barrier()  # the next tile's threads read what others have stored

        if tiles_each == 1:
            one_tile(0, None)
        else:
            lax.fori_loop(0, tiles_each, one_tile, None)

    parts = pl.pallas_call(
        program,
        out_shape=jax.ShapeDtypeStruct((programs, row_size), flat.dtype, manual_axis_type=_axes(rows.obs)),
        grid=(programs,),
        compiler_params=triton.CompilerParams(num_warps=_warps(layout, tiles_each), num_stages=1),
        interpret=interpret,
        name="actor_critic",
    )(scalars, flat, chosen, jnp.zeros(1, jnp.int32), *jax.tree.leaves(rows))
    total = parts.sum(0)
    return total[: layout.size], jax.tree.unflatten(terms_tree, [total[layout.size + k] for k in range(len(terms))])


def _axes(x: Array) -> Any:
    """The mesh axes over which ``x`` varies under ``shard_map``."""
    return jax.typeof(x).manual_axis_type


def _warps(layout: Layout, tiles_each: int) -> int:
    """Groups of 32 threads of a program: enough that its matrices fit into their registers, of 255 numbers each.

    Bytes that a thread spills to memory, compiled for an H200 by JAX 0.12.0 for 17 observations and 6 actions: two
    layers of 64 and one tile 16 to 28 with four groups; several tiles 68 to 180 with eight. Two layers of 128: one tile
    8 to 296 with eight groups; several tiles 1.3 to 1.9 KB.
    """
    layers = (*layout.actor.hidden, *layout.critic.hidden)
    largest = max(rows * cols for rows, cols in (layer.kernel.padded for layer in layers))
    return 4 if largest <= 64 * 64 and tiles_each == 1 else 8


def _places(matrix: Matrix, origin: Array | int) -> tuple[Array, Array | None]:
    """Places of a padded matrix's elements in the flat parameters, int32, and which of them exist; None: all.

    ``origin`` is 0.
    """
    row, col = (lax.broadcasted_iota(jnp.int32, matrix.padded, axis) for axis in (0, 1))
    places = origin + matrix.offset + row * matrix.stride + col
    if matrix.padded == (matrix.rows, matrix.cols):
        return places, None
    return places, (row < matrix.rows) & (col < matrix.cols)


def _parameters(flat_ref: Any, origin: Array | int) -> Load:
    """The function that loads a matrix of the flat parameters, padded with 0."""

    def load(matrix: Matrix) -> Array:
        places, exist = _places(matrix, origin)
        return _load(flat_ref.at[places], exist)

    return load


def _load(ref: Any, exist: Array | None) -> Array:
    """Elements of an array in memory, 0 where they do not exist."""
    return triton.load(ref) if exist is None else triton.load(ref, mask=exist, other=0.0)


def _accumulator(out_ref: Any, own: Array, origin: Array | int, begin: Array | bool | None, interpret: bool) -> Store:
    """The function that adds a matrix to program ``own``'s part of the gradient.

    ``begin`` says whether this tile is the program's first; None: it has only one.
    """
    unused = out_ref.shape[1] - 1

    def store(matrix: Matrix, x: Array) -> None:
        places, exist = _places(matrix, origin)
        if exist is not None and interpret:
            # The interpreter writes back what it finds at places that are left out, which may be another element's.
            places = jnp.where(exist, places, unused)
        ref = out_ref.at[own, places]
        if begin is not None:
            x = x + jnp.where(begin, 0.0, _load(ref, exist))
        triton.store(ref, x, mask=exist)

    return store


def _tile_of(sample_refs: Any, chosen_ref: Any, tile: Array, width: int, step: Step) -> losses.Samples:
    """The samples of one tile, observations and actions padded with 0; those beyond the minibatch weigh nothing."""
    total = chosen_ref.shape[0] * width
    number = tile * TILE + lax.iota(jnp.int32, TILE)
    exists, number = number < total, jnp.minimum(number, total - 1)
    row = triton.load(chosen_ref.at[number // width]) * width + number % width

    def load(ref: Any) -> Array:
        if len(ref.shape) == 1:
            return triton.load(ref.at[row])
        shape = (TILE, padded(ref.shape[1]))
        col = lax.broadcasted_iota(jnp.int32, shape, 1)
        return _load(ref.at[jnp.broadcast_to(row[:, None], shape), col], col < ref.shape[1])

    samples: losses.Samples = jax.tree.map(load, sample_refs)
    advantage = (samples.advantage - step.advantage_mean) * step.advantage_scale
    return replace(samples, advantage=advantage, valid=jnp.where(exists, samples.valid, 0.0))


def _backward(
    network: ActorCritic,
    layout: Layout,
    samples: losses.Samples,
    load: Load,
    store: Store,
    step: Step,
    config: PpoConfig,
) -> losses.LossTerms:
    """Stores the gradient of the tile's loss, and returns its terms, each []."""
    activation = ACTIVATIONS[network.activation]
    # Not a literal 1, whose negation Pallas's Triton lowering does not take (JAX 0.12).
    one = jnp.where(step.divisor > 0, jnp.ones_like(step.divisor), 1.0)

    def of_values(values: Array) -> tuple[Array, Array]:
        # The critic has one output; the others, padding, are 0.
        loss = losses.loss_of_value(values.sum(1), samples, step.divisor, config)
        return config.value_coef * loss, loss

    def of_policy(outputs: tuple[Array, ...], log_std: Array | None) -> tuple[Array, dict[str, Array]]:
        mean = outputs[0]
        if log_std is None:
            log_std = state_dependent_log_std(outputs[1], network.init_log_std, network.min_log_std)
        where = lax.broadcasted_iota(jnp.int32, (1, mean.shape[1]), 1) < network.action_size
        log_std = jnp.broadcast_to(log_std, mean.shape)
        head = Gaussian(network.action_size, where)
        return losses.loss_of_policy(head, (mean, log_std), samples, step.divisor, config, step.kl_penalty)

    # One network after the other: both networks' activations would not fit into the registers.
    (values,), backward = _forward(layout.critic, samples.obs, activation, load)
    _, pull, value_loss = jax.vjp(of_values, values, has_aux=True)
    backward(pull(one), store)

    outputs, backward = _forward(layout.actor, samples.obs, activation, load)
    log_std = load(layout.log_std) if layout.log_std else None
    _, pull, terms = jax.vjp(of_policy, outputs, log_std, has_aux=True)
    d_outputs, d_log_std = pull(one)
    backward(d_outputs, store)
    if layout.log_std:
        store(layout.log_std, d_log_std)
    return losses.LossTerms(value_loss=value_loss, **terms)


def _forward(
    mlp: Mlp, x: Array, activation: Callable[[Array], Array], load: Load
) -> tuple[tuple[Array, ...], Callable[[tuple[Array, ...], Store], None]]:
    """The outputs of a network's heads, and the function that stores its gradient, given the outputs' gradients."""
    inputs, slopes = [x], []
    for layer in mlp.hidden:
        x, pull = jax.vjp(activation, _affine(inputs[-1], layer, load))
        inputs.append(x)
        slopes.append(pull)

    def backward(d_outputs: tuple[Array, ...], store: Store) -> None:
        d_x = jnp.zeros_like(inputs[-1])
        for head, d_output in zip(mlp.heads, d_outputs, strict=True):
            _store_gradient(head, inputs[-1], d_output, store)
            d_x = d_x + _product(d_output, load(head.kernel).T)
        for i in reversed(range(len(mlp.hidden))):
            layer = mlp.hidden[i]
            (d_z,) = slopes[i](d_x)
            _store_gradient(layer, inputs[i], d_z, store)
            if i:
                d_x = _product(d_z, load(layer.kernel).T)

    return tuple(_affine(inputs[-1], head, load) for head in mlp.heads), backward


def _affine(x: Array, layer: Layer, load: Load) -> Array:
    return _product(x, load(layer.kernel)) + load(layer.bias)


def _store_gradient(layer: Layer, x: Array, d_z: Array, store: Store) -> None:
    """Stores the gradient of a layer with inputs ``x``, given that of its outputs."""
    store(layer.kernel, _product(x.T, d_z))
    store(layer.bias, d_z.sum(0, keepdims=True))


def _product(a: Array, b: Array) -> Array:
    """Matrix product on tensor cores; exact products would go through the registers, which are too few for them."""
    return jnp.dot(a, b, precision=lax.Precision.DEFAULT, preferred_element_type=jnp.float32)
