"""The springs and limits of balls, from a compiled ``MjModel``."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np

from mjxppo.physics.planar.compile.common import disabled, impedance, name_of
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.spatial.model import BallLimit, BallSpring


def compile_ball_springs(model: mujoco.MjModel, values: Values) -> tuple[BallSpring, ...]:
    """The springs of all balls that have one."""
    if disabled(model, "SPRING"):
        return ()
    springs = []
    for joint in _balls(model):
        if model.jnt_stiffness[joint] or values.vary("jnt_stiffness"):
            at = int(model.jnt_qposadr[joint])
            w, x, y, z = (float(number) for number in model.qpos_spring[at : at + 4])
            dof = int(model.jnt_dofadr[joint])
            springs.append(BallSpring(at, dof, values("jnt_stiffness", joint), (w, x, y, z)))
    return tuple(springs)


def compile_ball_limits(model: mujoco.MjModel, values: Values) -> tuple[BallLimit, ...]:
    """The limits of all balls that have one."""
    if disabled(model, "CONSTRAINT") or disabled(model, "LIMIT"):
        return ()
    return tuple(
        BallLimit(
            qpos_at=int(model.jnt_qposadr[joint]),
            dof_at=int(model.jnt_dofadr[joint]),
            angle=float(np.max(model.jnt_range[joint])),
            margin=float(model.jnt_margin[joint]),
            inv_weight=values("dof_invweight0", int(model.jnt_dofadr[joint])),
            impedance=impedance(
                model,
                model.jnt_solref[joint],
                model.jnt_solimp[joint],
                f"the limit of {name_of(model, 'joint', joint)}",
            ),
        )
        for joint in _balls(model)
        if model.jnt_limited[joint]
    )


def _balls(model: mujoco.MjModel) -> Iterator[int]:
    """The joints that are balls."""
    yield from np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_BALL).tolist()
