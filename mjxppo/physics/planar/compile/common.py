"""Helpers of the compiler: names, links, rounding, and MuJoCo's impedance parameters."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.maths import Scalar
from mjxppo.physics.planar.vector import Vector
from mjxppo.physics.rows import MINVAL, Impedance
from mjxppo.physics.tree import WORLD

OUT_OF_PLANE = 1e-9
"""Components along y below this are rounding errors of MuJoCo's quaternions."""
_ROUNDING = 1e-15
_MINIMP, _MAXIMP = 1e-4, 0.9999  # mjMINIMP, mjMAXIMP


def unsupported(reason: str) -> UnsupportedModelError:
    """The exception for one unsupported feature; ``reason`` names it and the element that has it.

    ``ColumnPhysics`` says which physics cannot represent it.
    """
    return UnsupportedModelError(reason)


def name_of(model: mujoco.MjModel, kind: str, index: int) -> str:
    """'kind "name"', or 'kind #index' for an unnamed element."""
    name = mujoco.mj_id2name(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), int(index))
    return f'{kind} "{name}"' if name else f"{kind} #{int(index)}"


def disabled(model: mujoco.MjModel, flag: str) -> bool:
    """Whether ``opt.disableflags`` holds mjDSBL_<flag>."""
    return bool(model.opt.disableflags & getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}"))


def xz(v: np.ndarray) -> Vector:
    """The components in the plane; rounding errors of MuJoCo's rotations become 0, which shortens the program."""
    return rounded(float(v[0])), rounded(float(v[2]))


def rounded(x: Scalar) -> Scalar:
    """A scalar; 0 for a constant that is a rounding error."""
    return 0.0 if isinstance(x, float) and abs(x) < _ROUNDING else x


def float_pair(v: np.ndarray) -> tuple[float, float]:
    """A range as Python floats."""
    return float(v[0]), float(v[1])


def link_of(model: mujoco.MjModel, body: int) -> int:
    """The link (the last dof) that carries the body, or WORLD for a body that is fixed to the world."""
    while body != 0 and model.body_dofnum[body] == 0:
        body = int(model.body_parentid[body])
    if body == 0:
        return WORLD
    return int(model.body_dofadr[body] + model.body_dofnum[body] - 1)


def link_of_joints(model: mujoco.MjModel, body: int) -> int:
    """The joint that carries the body (the last one), or WORLD for a body that is fixed to the world."""
    dof = link_of(model, body)
    return WORLD if dof == WORLD else int(model.dof_jntid[dof])


def impedance(model: mujoco.MjModel, solref: np.ndarray, solimp: np.ndarray, owner: str) -> Impedance:
    """A constraint's k, b and impedance parameters (engine_core_constraint.c: getsolparam, mj_makeImpedance).

    ``solref`` is (timeconst, dampratio), ``solimp`` (dmin, dmax, width, midpoint, power), and ``owner`` the element
    that an error names.
    """
    timeconst, dampratio = (float(x) for x in solref)
    if timeconst <= 0 or dampratio <= 0:
        raise unsupported(f"solref {timeconst:g} {dampratio:g} of {owner}: both must be positive")
    if not disabled(model, "REFSAFE"):
        timeconst = max(timeconst, 2 * float(model.opt.timestep))
    dmin, dmax = (float(x) for x in np.clip(solimp[:2], _MINIMP, _MAXIMP))
    return Impedance(
        stiffness=1.0 / max(MINVAL, dmax**2 * timeconst**2 * dampratio**2),
        damping=2.0 / max(MINVAL, dmax * timeconst),
        dmin=dmin,
        dmax=dmax,
        width=max(0.0, float(solimp[2])),
        midpoint=float(np.clip(solimp[3], _MINIMP, _MAXIMP)),
        power=max(1.0, float(solimp[4])),
    )


def lone_free_joint(model: mujoco.MjModel) -> str | None:
    """A free joint on which no other joint hangs, if the integrator is implicitfast, in words; else None.

    Of such a body MuJoCo integrates the gyroscopic force implicitly as well; neither MJX nor this package does.
    """
    if model.opt.integrator != mujoco.mjtIntegrator.mjINT_IMPLICITFAST:
        return None
    roots = model.body_rootid[model.jnt_bodyid]
    for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
        if np.sum(roots == roots[joint]) == 1:
            name = name_of(model, "joint", int(joint))
            return f"the integrator implicitfast with free {name}, on which no other joint hangs; use Euler or RK4"
    return None
