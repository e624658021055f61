"""Draws of the model's parameters: from random keys, one a world, to MuJoCo's model fields."""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo import physics
from mjxppo.physics.parameters import nominal
from mjxppo.randomize.config import RandomizeConfig, Spread
from mjxppo.randomize.quantities import FIELDS, tilted

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
        key = jax.random.fold_in(key, zlib.crc32(name.encode()))
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


def parameters(
    config: RandomizeConfig, model: mujoco.MjModel, keys: Array, extent: Array | None = None
) -> physics.Parameters:
    """The parameters of one world for each key [N], with all that follows from them; ``extent`` as in ``numbers``."""
    fields: physics.Parameters = {}
    for name, spread in config.physical.items():
        for field in FIELDS.get(name, ()):
            value = fields.get(field, jnp.asarray(nominal(model, field)[None], jnp.float32))
            number = numbers(spread, keys, name, value.shape[1], extent)
            number = number.reshape(*number.shape, *(1,) * (value.ndim - 2))
            if spread.operation == "scale":
                fields[field] = value * number
            else:
                fields[field] = jnp.maximum(value + number * can_be_added_to(model, field), 0.0)
    if config.slope.on:
        angle = jnp.deg2rad(numbers(config.slope, keys, "slope", 1, extent)[:, 0])
        gravity = fields.get("opt.gravity", jnp.asarray(model.opt.gravity[None], jnp.float32))
        gravity = jnp.broadcast_to(gravity, (len(angle), 3))
        fields["opt.gravity"] = jnp.stack(tilted(gravity.T, jnp.cos(angle), jnp.sin(angle)), axis=1)
    return physics.set_const(model, fields)


def can_be_added_to(model: mujoco.MjModel, field: str) -> np.ndarray:
    """Where an offset makes sense, 0 or 1 an element: at motors' joints, not at those between robot and world."""
    if field == "geom_friction":
        return np.array([1.0, 0.0, 0.0])  # sliding, torsional, rolling
    joints = set(model.actuator_trnid[:, 0].tolist())
    owners = range(model.njnt) if field.startswith("jnt") else model.dof_jntid.tolist()
    return np.array([float(joint in joints) for joint in owners])
