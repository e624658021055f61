"""The parameters of randomised worlds as numbers of order one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo.config.randomize import RandomizeConfig
from mjxppo.envs.randomize.quantities import FIELDS, can_be_added_to, factor
from mjxppo.physics import Parameters
from mjxppo.physics.parameters import nominal

Array = jax.Array


def factors(config: RandomizeConfig, model: mujoco.MjModel, parameters: Parameters) -> dict[str, Array]:
    """Everything physical that differs between worlds, by quantity, each [N, numbers drawn].

    Numbers are in units of the model's own values, where those are not 0; of gravity there are x and z, in units of
    its size, which hold the slope as well. Where a quantity is several of MuJoCo's fields, the first says it all.
    """
    found: dict[str, Array] = {}
    for name, spread in config.physical.items():
        if name in ("gravity", "slope"):
            size = np.linalg.norm(model.opt.gravity) or 1.0
            found["gravity"] = parameters["opt.gravity"][:, ::2] / jnp.float32(size)
            continue
        field = next(iter(FIELDS[name]))
        own = _first(nominal(model, field)[None])[0]
        varies = (own != 0) & (factor(model, field, np.zeros(1)) == 0)  # the ground's size does not
        if spread.operation == "add" and name != "friction":
            varies = can_be_added_to(model, field) > 0
        elements = np.flatnonzero(varies)[: None if spread.each else 1]
        units = np.where(own == 0, 1.0, own)[elements]
        found[name] = _first(parameters[field])[:, elements] / jnp.asarray(units, jnp.float32)
    return found


def _first(field: Any) -> Any:
    """[N, elements] of a field [N, elements, ...]: inertia is scaled in all directions, friction varies sliding."""
    return field.reshape(*field.shape[:2], -1)[:, :, 0]
