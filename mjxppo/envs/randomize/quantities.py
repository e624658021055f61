"""The quantities that can be varied, in terms of MuJoCo's model fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from mjxppo.config.randomize import Spread
from mjxppo.errors import UserError
from mjxppo.physics.parameters import nominal

FIELDS = {
    "mass": {"body_mass": 1, "body_inertia": 1},
    "inertia": {"body_inertia": 1},
    "size": {
        **dict.fromkeys(("geom_size", "geom_pos", "body_pos", "jnt_pos", "body_ipos"), 1),
        "body_mass": 3,
        "body_inertia": 5,
    },
    "friction": {"geom_friction": 1},
    "strength": {"actuator_gainprm": 1, "actuator_biasprm": 1},
    "damping": {"dof_damping": 1},
    "stiffness": {"jnt_stiffness": 1},
    "armature": {"dof_armature": 1},
    "gravity": {"opt.gravity": 1},
}
"""The model fields that a factor on a quantity multiplies, and the power of the factor that each is multiplied by."""

_SIZED = ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")


def factors_of_elements(model: mujoco.MjModel, field: str, factor: Any) -> Any:
    """The factor of each element of a field, [N, elements] or [N, 1], for a quantity's factor [N, elements or 1].

    It is the quantity's factor, except that of the ground's size, which is 1.
    """
    if field not in ("geom_pos", "geom_size"):
        return factor
    robot = model.geom_bodyid > 0
    return factor * robot + ~robot


def check_size(model: mujoco.MjModel, path: str) -> None:
    """Raises UserError, naming ``path``, where the size of a model's robot cannot be changed by a factor."""
    known = [int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in _SIZED]
    if not np.isin(model.geom_type, known).all():
        raise UserError(f"{path}: the model has geoms whose shape is in a file and does not grow")
    if np.any(model.wrap_type != int(mujoco.mjtWrap.mjWRAP_JOINT)):
        raise UserError(f"{path}: the model has tendons through points, which do not move")


def check_spreads(model: mujoco.MjModel, spreads: Mapping[str, Spread]) -> None:
    """Raises UserError, naming the field, where a quantity cannot have its spread in this model."""
    if "size" in spreads:
        check_size(model, "randomize.size")
    for name, spread in spreads.items():
        if spread.operation != "add" or name not in FIELDS:
            continue
        field = next(iter(FIELDS[name]))
        own = nominal(model, field)
        changed = own[np.broadcast_to(can_be_added_to(model, field) > 0, own.shape)]
        least = 0.0 - min(changed, default=np.inf)  # subtracted, because -min would print as -0
        if spread.low < least:
            raise UserError(
                f"randomize.{name}.low: must be {least:g} or more, is {spread.low:g}: the model's least {name} is "
                f"{0.0 - least:g}, and none may become negative"
            )


def can_be_added_to(model: mujoco.MjModel, field: str) -> np.ndarray:
    """1 for the elements of a field that an offset is added to, else 0.

    These are the elements of joints that have an actuator, not of those that connect the robot to the world; and the
    sliding component of friction.
    """
    if field == "geom_friction":
        return np.array([1.0, 0.0, 0.0])  # sliding, torsional, rolling
    joints = set(model.actuator_trnid[:, 0].tolist())
    owners = range(model.njnt) if field.startswith("jnt") else model.dof_jntid.tolist()
    return np.array([float(joint in joints) for joint in owners])


def tilted_gravity(gravity: Any, cos: Any, sin: Any) -> tuple[Any, Any, Any]:
    """Gravity (x, y, z) in the frame of a ground that rises along x, at an angle of the given cosine and sine."""
    x, y, z = gravity
    return cos * x + sin * z, y, cos * z - sin * x
