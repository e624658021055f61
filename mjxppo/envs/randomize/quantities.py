"""What the quantities that can be varied are in MuJoCo's terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
"""The model fields that a factor on a quantity multiplies, and with which power of it."""

_SIZED = ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")


def factor(model: mujoco.MjModel, field: str, number: Any) -> Any:
    """What a factor on a quantity is for each element of a field, [N, elements] or [N, 1]: the ground has no size."""
    if field not in ("geom_pos", "geom_size"):
        return number
    robot = model.geom_bodyid > 0
    return number * robot + ~robot


def check(model: mujoco.MjModel, names: Collection[str], path: str) -> None:
    """Raises UserError, naming ``path``, where one of the quantities cannot be changed in this model."""
    if "size" not in names:
        return
    known = [int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in _SIZED]
    if not np.isin(model.geom_type, known).all():
        raise UserError(f"{path}: the model has geoms whose shape is in a file and does not grow")
    if np.any(model.wrap_type != int(mujoco.mjtWrap.mjWRAP_JOINT)):
        raise UserError(f"{path}: the model has tendons through points, which do not move")


def check_spreads(model: mujoco.MjModel, spreads: Mapping[str, Spread]) -> None:
    """Raises UserError, naming the field, where a quantity cannot vary so in this model."""
    check(model, spreads, "randomize.size")
    for name, spread in spreads.items():
        if spread.operation != "add" or name not in FIELDS:
            continue
        field = next(iter(FIELDS[name]))
        own = nominal(model, field)
        changed = own[np.broadcast_to(can_be_added_to(model, field) > 0, own.shape)]
        least = 0.0 - min(changed, default=np.inf)  # a negative 0 is not for reading
        if spread.low < least:
            raise UserError(
                f"randomize.{name}.low: must be {least:g} or more, is {spread.low:g}: the model's least {name} is "
                f"{0.0 - least:g}, and none may become negative"
            )


def can_be_added_to(model: mujoco.MjModel, field: str) -> np.ndarray:
    """Where an offset makes sense, 0 or 1 an element: at motors' joints, not at those between robot and world."""
    if field == "geom_friction":
        return np.array([1.0, 0.0, 0.0])  # sliding, torsional, rolling
    joints = set(model.actuator_trnid[:, 0].tolist())
    owners = range(model.njnt) if field.startswith("jnt") else model.dof_jntid.tolist()
    return np.array([float(joint in joints) for joint in owners])


def tilted(gravity: Any, cos: Any, sin: Any) -> tuple[Any, Any, Any]:
    """Gravity (x, y, z) as felt on ground that rises along x at an angle of the given cosine and sine."""
    x, y, z = gravity
    return cos * x + sin * z, y, cos * z - sin * x
