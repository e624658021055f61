"""Draws of the model's parameters: from random keys, one a world, to MuJoCo's model fields."""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import mujoco

from mjxppo import physics
from mjxppo.config.randomize import RandomizeConfig, Spread
from mjxppo.envs.randomize.quantities import FIELDS, can_be_added_to, factor, tilted
from mjxppo.physics.parameters import nominal

Array = jax.Array


def numbers(spread: Spread, keys: Array, name: str, count: int, extent: Array | None = None) -> Array:
    """Random numbers [N, count], or [N, 1] where one serves for all.

    Each depends on its world's key and the name alone, so that varying another quantity too does not change it.

    Args:
        spread: their distribution.
        keys: random keys, [N].
        name: the quantity's name.
        count: elements of the quantity.
        extent: share of the spread's range, from 0 (no change at all) to 1, that each world has, [N]; None: all of it.
    """
    size = count if spread.each else 1
    low, high = spread.low, spread.high

    def one(key: Array) -> Array:
        key = _of_quantity(key, name)
        if spread.distribution == "normal":
            return (low + high) / 2 + (high - low) / 4 * jax.random.truncated_normal(key, -2.0, 2.0, (size,))
        share = jax.random.uniform(key, (size,))
        if spread.distribution == "log_uniform":
            return low * (high / low) ** share
        return low + (high - low) * share

    drawn = jax.vmap(one)(keys)
    if extent is None:
        return drawn
    neutral = 1.0 if spread.operation == "scale" else 0.0
    return neutral + extent[:, None] * (drawn - neutral)


def integers(keys: Array, name: str, count: int) -> Array:
    """Random integers from 0 to ``count`` - 1, [N] int32; otherwise as ``numbers``."""
    return jax.vmap(lambda key: jax.random.randint(_of_quantity(key, name), (), 0, count))(keys)


def others(keys: Array) -> Array:
    """Other keys for another draw of everything, [N]."""
    return jax.vmap(lambda key: _of_quantity(key, "others"))(keys)


def _of_quantity(key: Array, name: str) -> Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def parameters(
    config: RandomizeConfig, model: mujoco.MjModel, keys: Array, extent: Array | None = None
) -> physics.Parameters:
    """The parameters of one world for each key [N], with all that follows from them; ``extent`` as in ``numbers``."""
    fields: physics.Parameters = {}
    for name, spread in config.physical.items():
        if name not in FIELDS:
            continue
        elements = len(nominal(model, next(iter(FIELDS[name]))))  # the same for all fields where each has its own
        number = numbers(spread, keys, name, elements, extent)
        for field, power in FIELDS[name].items():
            value = fields.get(field, jnp.asarray(nominal(model, field)[None], jnp.float32))
            fields[field] = _changed(model, field, value, spread, number**power if power > 1 else number)
    if config.slope.on:
        angle = jnp.deg2rad(numbers(config.slope, keys, "slope", 1, extent)[:, 0])
        gravity = fields.get("opt.gravity", jnp.asarray(model.opt.gravity[None], jnp.float32))
        gravity = jnp.broadcast_to(gravity, (len(angle), 3))
        fields["opt.gravity"] = jnp.stack(tilted(gravity.T, jnp.cos(angle), jnp.sin(angle)), axis=1)
    return physics.set_const(model, fields)


def _changed(model: mujoco.MjModel, field: str, value: Array, spread: Spread, number: Array) -> Array:
    """A field [N or 1, elements, ...] with a number [N, elements or 1] as factor or offset, [N, elements, ...]."""

    def like(number: Array) -> Array:
        return number.reshape(*number.shape, *(1,) * (value.ndim - 2))

    if spread.operation == "scale":
        return value * like(factor(model, field, number))
    # The range ends at 0 at the least (check_spreads), but rounding may go beyond it.
    return jnp.maximum(value + like(number) * can_be_added_to(model, field), 0.0)
