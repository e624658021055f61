"""One robot that differs from its model by given changes, for C MuJoCo."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from mjxppo.envs.randomize.quantities import FIELDS, check, factor, tilted
from mjxppo.physics.parameters import nominal

QUANTITIES = (*FIELDS, "slope")
"""What can be changed: by a factor on the model's own value, the slope to an angle (degrees, uphill is positive)."""


def changed_fields(model: mujoco.MjModel, changes: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The model's fields after changes of quantities, by MuJoCo's names."""
    check(model, changes, "perturb: size")
    fields: dict[str, np.ndarray] = {}
    for name, change in changes.items():
        for field, power in FIELDS.get(name, {}).items():
            value = fields.get(field, nominal(model, field))
            share = np.reshape(factor(model, field, np.full(1, change**power)), (-1, *(1,) * (value.ndim - 1)))
            fields[field] = value * share
    if "slope" in changes:
        angle = np.deg2rad(changes["slope"])
        gravity = fields.get("opt.gravity", nominal(model, "opt.gravity"))
        fields["opt.gravity"] = np.array(tilted(gravity, np.cos(angle), np.sin(angle)))
    return fields
