"""The features of a model that are known to be exact; all others are refused by name."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.planar.compile import support as shared
from mjxppo.physics.planar.compile.common import lone_free_joint, name_of, unsupported


def check_features(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for the first feature that is not known to be exact.

    Contacts are checked where they are compiled.
    """
    shared.check_options(model)
    if model.nv == 0:
        raise unsupported("a model without joints")
    shared.check_absent(model)
    shared.check_actuators(model)
    if (lone := lone_free_joint(model)) is not None:
        raise unsupported(lone)
    for joint in range(model.njnt):
        several = model.jnt_type[joint] in (mujoco.mjtJoint.mjJNT_BALL.value, mujoco.mjtJoint.mjJNT_FREE.value)
        if not several:
            continue
        kind = mujoco.mjtJoint(model.jnt_type[joint]).name.removeprefix("mjJNT_").lower()
        name = f"{kind} {name_of(model, 'joint', joint)}"
        if kind == "free" and np.any(model.jnt_stiffness[joint]):
            raise unsupported(f"the spring of {name}")
        for u in range(model.nu):
            if model.actuator_trnid[u, 0] == joint:
                raise unsupported(f"{name_of(model, 'actuator', u)} on {name}")
    shared.check_inertia(model)
