"""What the ``mjx`` backend refuses, because it would not compute what MuJoCo computes."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.mjx._src.collision_driver import geom_pairs

from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.planar.compile.common import lone_free_joint, name_of

INTEGRATORS = {
    mujoco.mjtIntegrator.mjINT_EULER: "Euler",
    mujoco.mjtIntegrator.mjINT_RK4: "RK4",
    mujoco.mjtIntegrator.mjINT_IMPLICITFAST: "implicitfast",
}

_EXACT_CONTACTS = {
    "PLANE": ("SPHERE", "CAPSULE", "ELLIPSOID"),
    "SPHERE": ("SPHERE", "CAPSULE", "BOX", "MESH"),
    "CAPSULE": ("CAPSULE",),
}
"""The pairs of shapes for which MJX finds MuJoCo's contacts. For others it finds other points: of a box or cylinder on
a plane those within 1 mm of the deepest, of a capsule on a box one where MuJoCo has two, or where a search has ended.
"""

_LEFT_OUT = {
    "dof_dampingpoly": ("joint", "polynomial damping"),
    "jnt_stiffnesspoly": ("joint", "polynomial stiffness"),
    "tendon_dampingpoly": ("tendon", "polynomial damping"),
    "tendon_stiffnesspoly": ("tendon", "polynomial stiffness"),
    "actuator_armature": ("actuator", "armature"),
    "actuator_damping": ("actuator", "damping"),
    "actuator_dampingpoly": ("actuator", "polynomial damping"),
    "actuator_delay": ("actuator", "delay"),
    "geom_surfacevel": ("geom", "surface velocity"),
    "geom_adhesion": ("geom", "adhesion"),
    "geom_fluid": ("geom", "fluid forces (fluidshape)"),
}
"""Fields of MjModel that MJX ignores, or (fluid forces) computes otherwise, and which must be 0."""


_HARMLESS_ENABLE = sum(
    getattr(mujoco.mjtEnableBit, f"mjENBL_{flag}").value for flag in ("ENERGY", "FWDINV", "INVDISCRETE")
)
"""Enable flags that only compute more."""


def check_supported(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError, which names the feature, where the backend would not compute what MuJoCo does."""
    if model.opt.integrator not in INTEGRATORS:
        name = mujoco.mjtIntegrator(model.opt.integrator).name
        raise UnsupportedModelError(f"mjx: integrator {name} is not supported; use {', '.join(INTEGRATORS.values())}")
    if model.opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL:
        raise UnsupportedModelError(
            "mjx: elliptic friction cones are not supported; set cone='pyramidal' or use mjx-warp"
        )
    if (lone := lone_free_joint(model)) is not None:
        raise UnsupportedModelError(f"mjx: {lone}")
    _check_fields(model)
    _check_contacts(model)
    check_carried_state(model, "mjx")


def _check_contacts(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for the first two geoms that can touch and whose contacts MJX only approximates."""
    if model.opt.disableflags & (mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT):
        return
    for *geoms, _ in geom_pairs(model):
        moves = any(model.body_dofnum[model.body_weldid[model.geom_bodyid[geom]]] for geom in geoms)
        first, second = (mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_") for geom in geoms)
        if moves and second not in _EXACT_CONTACTS.get(first, ()):
            one, other = (name_of(model, "geom", geom) for geom in geoms[::-1])
            raise UnsupportedModelError(
                f"mjx: contact of the {second.lower()} {one} with the {first.lower()} {other} would not be MuJoCo's; "
                "make both spheres or capsules, or let them not touch (contype, conaffinity)"
            )


def _check_fields(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError for the first feature that MJX leaves out."""
    for field, (kind, feature) in _LEFT_OUT.items():
        for index, value in enumerate(np.asarray(getattr(model, field))):
            if np.any(value):
                raise UnsupportedModelError(f"mjx: {feature} of {name_of(model, kind, index)} is not supported")
    for option in ("noslip_iterations", "disableactuator"):
        if getattr(model.opt, option):
            raise UnsupportedModelError(f"mjx: option {option} {getattr(model.opt, option)} is not supported, only 0")
    for name, flag in mujoco.mjtEnableBit.__members__.items():
        if name.startswith("mjENBL_") and model.opt.enableflags & flag & ~_HARMLESS_ENABLE:
            kind = name.removeprefix("mjENBL_").lower()
            raise UnsupportedModelError(f"mjx: option flag {kind}='enable' is not supported; leave it out")
    for index, kind_of_equality in enumerate(model.eq_type):
        kind = mujoco.mjtEq(kind_of_equality).name.removeprefix("mjEQ_").lower()
        if kind in ("connect", "weld"):
            raise UnsupportedModelError(
                f"mjx: the {kind} {name_of(model, 'equality', index)} would not be MuJoCo's: MJX leaves out a term of "
                "its velocity; join the bodies by joints"
            )


def check_carried_state(model: mujoco.MjModel, backend: str) -> None:
    """Raises UnsupportedModelError for models with state beyond positions, velocities and the warm start."""
    if model.na:
        actuator = name_of(model, "actuator", int(np.flatnonzero(model.actuator_actnum)[0]))
        raise UnsupportedModelError(
            f"{backend}: the state of {actuator} is not carried between steps; make it a motor, or a position or "
            "velocity servo without a time constant"
        )
    for count, what in (
        (model.nhistory, "delays (history buffers)"),
        (model.nplugin, "plugins"),
        (model.nflex, "flexes"),
    ):
        if count:
            raise UnsupportedModelError(
                f"{backend}: {what} are not supported, their state is not carried between steps"
            )
