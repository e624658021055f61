"""Random variations of worlds: from random keys, one a world, to numbers and to MuJoCo's model fields."""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import mujoco

from mjxppo import physics
from mjxppo.config.randomize import RandomizeConfig, Spread
from mjxppo.envs.randomize.quantities import FIELDS, can_be_added_to, factors_of_elements, tilted_gravity
from mjxppo.physics.parameters import nominal

Array = jax.Array


def draw_numbers(spread: Spread, keys: Array, name: str, count: int, share: Array | None = None) -> Array:
    """Random numbers [N, count], or [N, 1] where one number serves for all elements.

    Each depends on its world's key [N] and the quantity's name alone, so that it is the same whichever other quantities
    vary. ``count`` is the number of the quantity's elements. ``share`` [N] is the share of the spread's range that each
    world uses, from 0 (no change) to 1 (the full range, also where it is None).
    """
    size = count if spread.each else 1
    low, high = spread.low, spread.high

    def draw_one(key: Array) -> Array:
        key = _key_of_quantity(key, name)
        if spread.distribution == "normal":
            return (low + high) / 2 + (high - low) / 4 * jax.random.truncated_normal(key, -2.0, 2.0, (size,))
        position = jax.random.uniform(key, (size,))
        if spread.distribution == "log_uniform":
            return low * (high / low) ** position
        return low + (high - low) * position

    drawn = jax.vmap(draw_one)(keys)
    if share is None:
        return drawn
    neutral = 1.0 if spread.operation == "scale" else 0.0
    return neutral + share[:, None] * (drawn - neutral)


def draw_integers(keys: Array, name: str, count: int) -> Array:
    """Random integers from 0 to ``count`` - 1, [N] int32; keys and name as in ``draw_numbers``."""
    return jax.vmap(lambda key: jax.random.randint(_key_of_quantity(key, name), (), 0, count))(keys)


def second_keys(keys: Array) -> Array:
    """Keys [N] for a second, independent draw of everything in the same worlds."""
    return jax.vmap(lambda key: _key_of_quantity(key, "others"))(keys)


def _key_of_quantity(key: Array, name: str) -> Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def draw_parameters(
    config: RandomizeConfig, model: mujoco.MjModel, keys: Array, share: Array | None = None
) -> physics.Parameters:
    """Physical parameters of one world for each key [N], including the model fields that follow from the drawn ones.

    ``model`` is the nominal one; ``share`` as in ``draw_numbers``.
    """
    parameters: physics.Parameters = {}
    for name, spread in config.physical.items():
        if name not in FIELDS:
            continue
        elements = len(nominal(model, next(iter(FIELDS[name]))))  # the same for all its fields where ``each``
        number = draw_numbers(spread, keys, name, elements, share)
        for field, power in FIELDS[name].items():
            value = parameters.get(field, jnp.asarray(nominal(model, field)[None], jnp.float32))
            parameters[field] = _changed(model, field, value, spread, number**power if power > 1 else number)
    if config.slope.on:
        angle = jnp.deg2rad(draw_numbers(config.slope, keys, "slope", 1, share)[:, 0])
        gravity = parameters.get("opt.gravity", jnp.asarray(model.opt.gravity[None], jnp.float32))
        gravity = jnp.broadcast_to(gravity, (len(angle), 3))
        parameters["opt.gravity"] = jnp.stack(tilted_gravity(gravity.T, jnp.cos(angle), jnp.sin(angle)), axis=1)
    return physics.set_const(model, parameters)


def _changed(model: mujoco.MjModel, field: str, value: Array, spread: Spread, number: Array) -> Array:
    """A field [N or 1, elements, ...] with a number [N, elements or 1] as factor or offset, [N, elements, ...]."""

    def aligned(number: Array) -> Array:
        return number.reshape(*number.shape, *(1,) * (value.ndim - 2))

    if spread.operation == "scale":
        return value * aligned(factors_of_elements(model, field, number))
    # ``check_spreads`` keeps the range's low end from making the field negative; rounding may still do so.
    return jnp.maximum(value + aligned(number) * can_be_added_to(model, field), 0.0)
