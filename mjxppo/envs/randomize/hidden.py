"""The physical parameters of randomised worlds as privileged observations: numbers of order one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo.config.randomize import RandomizeConfig
from mjxppo.envs.randomize.quantities import FIELDS, can_be_added_to, factors_of_elements
from mjxppo.physics import Parameters
from mjxppo.physics.parameters import nominal

Array = jax.Array


def hidden_parameters(config: RandomizeConfig, model: mujoco.MjModel, parameters: Parameters) -> dict[str, Array]:
    """The physical quantities that differ between worlds, by name, each [N, numbers drawn].

    Numbers are in units of the model's own values, where those are not 0. Gravity has x and z, in units of its
    magnitude; they contain the slope. Of a quantity that changes several of MuJoCo's fields only the first is given.
    """
    hidden: dict[str, Array] = {}
    for name, spread in config.physical.items():
        if name in ("gravity", "slope"):
            magnitude = np.linalg.norm(model.opt.gravity) or 1.0
            hidden["gravity"] = parameters["opt.gravity"][:, ::2] / jnp.float32(magnitude)
            continue
        field = next(iter(FIELDS[name]))
        own = _first_component(nominal(model, field)[None])[0]
        varies = (own != 0) & (factors_of_elements(model, field, np.zeros(1)) == 0)  # not the ground's size
        if spread.operation == "add" and name != "friction":
            varies = can_be_added_to(model, field) > 0
        elements = np.flatnonzero(varies)[: None if spread.each else 1]
        units = np.where(own == 0, 1.0, own)[elements]
        hidden[name] = _first_component(parameters[field])[:, elements] / jnp.asarray(units, jnp.float32)
    return hidden


def _first_component(field: Any) -> Any:
    """[N, elements] of a field [N, elements, ...]: inertias scale as a whole, and only sliding friction varies."""
    return field.reshape(*field.shape[:2], -1)[:, :, 0]
