"""The features of a model that are known to be exact; all others are refused by name."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.elements import Integrator
from mjxppo.physics.planar.compile.common import name_of, unsupported
from mjxppo.physics.rows import MINVAL

_ABSENT_SIZES = {
    "neq": "equality constraints",
    "na": "actuators with activation dynamics",
    "nflex": "flexible bodies (flex)",
    "nplugin": "plugins",
    "nmocap": "mocap bodies",
    "npair": "explicit contact pairs (<pair>)",
    "ngravcomp": "gravity compensation (gravcomp)",
    "nhistory": "delays (history buffers)",
}
"""Sizes of MjModel that must be 0."""

_ABSENT_FIELDS = {
    "body_gravcomp": ("body", "gravcomp"),
    "dof_dampingpoly": ("joint", "polynomial damping"),
    "jnt_stiffnesspoly": ("joint", "polynomial stiffness"),
    "jnt_actgravcomp": ("joint", "actuatorgravcomp"),
    "tendon_limited": ("tendon", "the limit"),
    "tendon_frictionloss": ("tendon", "frictionloss"),
    "tendon_armature": ("tendon", "armature"),
    "tendon_dampingpoly": ("tendon", "polynomial damping"),
    "tendon_stiffnesspoly": ("tendon", "polynomial stiffness"),
    "geom_gap": ("geom", "contact gap"),
    "geom_surfacevel": ("geom", "surface velocity"),
    "geom_adhesion": ("geom", "adhesion"),
    "geom_fluid": ("geom", "fluid forces (fluidshape)"),
    "actuator_armature": ("actuator", "armature"),
    "actuator_damping": ("actuator", "damping"),
    "actuator_dampingpoly": ("actuator", "polynomial damping"),
    "actuator_delay": ("actuator", "delay"),
    "actuator_dyntype": ("actuator", "activation dynamics"),
}
"""Fields of MjModel that must be 0 everywhere."""

_HARMLESS_DISABLE = (
    *("CONSTRAINT", "EQUALITY", "FRICTIONLOSS", "LIMIT", "CONTACT", "SPRING", "DAMPER", "GRAVITY", "CLAMPCTRL"),
    *("WARMSTART", "FILTERPARENT", "ACTUATION", "REFSAFE", "SENSOR", "MIDPHASE", "EULERDAMP", "AUTORESET"),
    *("NATIVECCD", "ISLAND", "MULTICCD"),
)
"""Disable flags that are honoured by the compiler or change nothing here."""
_HARMLESS_ENABLE = ("ENERGY", "FWDINV", "INVDISCRETE")
"""Enable flags that only compute more. (mjENBL_INVDISCRETE concerns inverse dynamics.)"""

INTEGRATORS: dict[int, Integrator] = {
    int(mujoco.mjtIntegrator.mjINT_EULER): "euler",
    int(mujoco.mjtIntegrator.mjINT_RK4): "rk4",
    int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST): "implicitfast",
}

_SINGULAR = 1e-12
"""An eigenvalue of the inertia matrix, scaled to a diagonal of ones, below this is a rounding error."""


def check_features(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for the first feature that is not known to be exact.

    Joint axes and contacts are checked where they are compiled.
    """
    check_options(model)
    for option in ("density", "viscosity"):
        if getattr(model.opt, option):
            raise unsupported(f"option {option} {getattr(model.opt, option):g}: only 0")
    _check_joints(model)
    check_absent(model)
    check_actuators(model)
    check_inertia(model)


def check_absent(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for features that a model must not have at all."""
    for size, feature in _ABSENT_SIZES.items():
        if getattr(model, size):
            raise unsupported(f"{feature}{_first_owner(model, size)}")
    for field, (kind, feature) in _ABSENT_FIELDS.items():
        values = np.asarray(getattr(model, field))
        for index, value in enumerate(values):
            if np.any(value):
                index = int(model.dof_jntid[index]) if field.startswith("dof_") else index
                raise unsupported(f"{feature} of {name_of(model, kind, index)}")
    _check_tendons(model)


def _check_tendons(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for tendons that are more than a spring and a damper over joints."""
    fixed = model.wrap_type == mujoco.mjtWrap.mjWRAP_JOINT
    for tendon in range(model.ntendon):
        start, name = int(model.tendon_adr[tendon]), name_of(model, "tendon", tendon)
        if not fixed[start : start + int(model.tendon_num[tendon])].all():
            raise unsupported(f"the spatial {name}")
        if model.tendon_damping[tendon] and INTEGRATORS[int(model.opt.integrator)] == "implicitfast":
            raise unsupported(f"damping of {name} with the integrator implicitfast")


def check_options(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for options of the simulation that are not known to be exact."""
    opt = model.opt
    if int(opt.integrator) not in INTEGRATORS:
        kind = mujoco.mjtIntegrator(opt.integrator).name.removeprefix("mjINT_").lower()
        raise unsupported(f"option integrator {kind}: only Euler, RK4 and implicitfast")
    if opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL:
        raise unsupported("option cone elliptic: only pyramidal")
    for option in ("noslip_iterations", "disableactuator"):
        if getattr(opt, option):
            raise unsupported(f"option {option} {getattr(opt, option):g}: only 0")
    known = sum(getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}") for flag in _HARMLESS_DISABLE)
    if opt.disableflags & ~known:
        raise unsupported(f"option disableflags {opt.disableflags:#x}")
    known = sum(getattr(mujoco.mjtEnableBit, f"mjENBL_{flag}") for flag in _HARMLESS_ENABLE)
    if opt.enableflags & ~known:
        flags = [f for f in mujoco.mjtEnableBit.__members__.values() if opt.enableflags & ~known & f]
        raise unsupported(f"option enable flag {flags[0].name.removeprefix('mjENBL_').lower()}")


def _check_joints(model: mujoco.MjModel) -> None:
    if model.nv == 0:
        raise unsupported("a model without joints")
    scalar = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))
    for joint in range(model.njnt):
        if model.jnt_type[joint] not in scalar:
            kind = mujoco.mjtJoint(model.jnt_type[joint]).name.removeprefix("mjJNT_").lower()
            raise unsupported(f"{kind} {name_of(model, 'joint', joint)}: only slides and hinges")


def check_actuators(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for actuators that are not affine in one joint's position and velocity."""
    if model.nu != model.nactuator:
        raise unsupported("actuators with several controls")
    allowed = (
        ("trntype", mujoco.mjtTrn, ("mjTRN_JOINT", "mjTRN_JOINTINPARENT"), "transmission"),
        ("gaintype", mujoco.mjtGain, ("mjGAIN_FIXED", "mjGAIN_AFFINE"), "gain"),
        ("biastype", mujoco.mjtBias, ("mjBIAS_NONE", "mjBIAS_AFFINE"), "bias"),
    )
    for u in range(model.nu):
        for field, enum, names, feature in allowed:
            value = enum(getattr(model, f"actuator_{field}")[u])
            if value.name not in names:
                kind = value.name.split("_", 1)[1].lower()
                raise unsupported(f"the {kind} {feature} of {name_of(model, 'actuator', u)}")


def check_inertia(model: mujoco.MjModel) -> None:
    """Raises for a singular inertia matrix: a joint moves no mass that other joints do not move in the same way.

    An example is two slides of one body along the same axis. MuJoCo adds mjMINVAL, 1e-15, to such a matrix and goes on.
    The matrix is computed here because MuJoCo's (mj_crb) does not show it: for a simple body that only slides, it holds
    the mass for each joint as if that joint were the only one.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    inertia = np.diag(model.dof_armature)
    for body in range(1, model.nbody):
        along, about = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacBodyCom(model, data, along, about, body)
        axes = data.ximat[body].reshape(3, 3)
        inertia += model.body_mass[body] * along.T @ along
        inertia += about.T @ (axes * model.body_inertia[body]) @ axes.T @ about
    scale = np.sqrt(np.maximum(np.diag(inertia), MINVAL))
    values, vectors = np.linalg.eigh(inertia / np.outer(scale, scale))
    if values[0] < _SINGULAR:
        joints = np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)
        names = ", ".join(name_of(model, "joint", int(joint)) for joint in joints)
        raise unsupported(
            f"a singular inertia matrix ({names}): remove a joint that moves nothing of its own, or add armature"
        )


def _first_owner(model: mujoco.MjModel, size: str) -> str:
    """' (element "name")' for the first element that has the feature; empty for features without one."""
    if size == "neq":
        return f" ({name_of(model, 'equality', 0)})"
    if size == "na":
        return f" ({name_of(model, 'actuator', int(np.flatnonzero(model.actuator_actnum)[0]))})"
    if size == "nmocap":
        return f" ({name_of(model, 'body', int(np.flatnonzero(model.body_mocapid >= 0)[0]))})"
    if size == "npair":
        return f" ({name_of(model, 'geom', model.pair_geom1[0])}, {name_of(model, 'geom', model.pair_geom2[0])})"
    if size == "ngravcomp":
        return f" ({name_of(model, 'body', int(np.flatnonzero(model.body_gravcomp)[0]))})"
    return ""
