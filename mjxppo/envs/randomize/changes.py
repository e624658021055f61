"""Changes of one MuJoCo model by given factors, for C MuJoCo."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from mjxppo.envs.randomize.quantities import FIELDS, check_size, factors_of_elements, tilted_gravity
from mjxppo.physics.parameters import nominal

QUANTITIES = (*FIELDS, "slope")
"""Quantities that can be changed: by a factor on the model's own value; the slope, by an angle in degrees (positive is
uphill)."""


def changed_fields(model: mujoco.MjModel, changes: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The model's fields that the changes of quantities change, with their new values, by MuJoCo's names.

    Raises:
        UserError: ``changes`` has a size, but the model's size cannot change.
    """
    if "size" in changes:
        check_size(model, "perturb: size")
    changed: dict[str, np.ndarray] = {}
    for name, change in changes.items():
        for field, power in FIELDS.get(name, {}).items():
            value = changed.get(field, nominal(model, field))
            factors = factors_of_elements(model, field, np.full(1, change**power))
            changed[field] = value * np.reshape(factors, (-1, *(1,) * (value.ndim - 1)))
    if "slope" in changes:
        angle = np.deg2rad(changes["slope"])
        gravity = changed.get("opt.gravity", nominal(model, "opt.gravity"))
        changed["opt.gravity"] = np.array(tilted_gravity(gravity, np.cos(angle), np.sin(angle)))
    return changed
