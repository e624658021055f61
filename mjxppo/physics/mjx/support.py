"""What the ``mjx`` backend refuses, because it would not compute what MuJoCo computes."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.mjx._src.collision_driver import geom_pairs

from mjxppo.errors import UserError
from mjxppo.physics.planar.compile.common import name_of

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


def check_supported(model: mujoco.MjModel) -> None:
    """Raises UserError, which names the feature, where the backend would not compute what MuJoCo computes."""
    if model.opt.integrator not in INTEGRATORS:
        name = mujoco.mjtIntegrator(model.opt.integrator).name
        raise UserError(f"mjx: integrator {name} is not supported; use {', '.join(INTEGRATORS.values())}")
    if model.opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL:
        raise UserError("mjx: elliptic friction cones are not supported; set cone='pyramidal' or use mjx-warp")
    _check_fields(model)
    _check_contacts(model)
    check_carried_state(model, "mjx")


def _check_contacts(model: mujoco.MjModel) -> None:
    """Raises UserError for the first two geoms that can touch and whose contacts MJX only approximates."""
    if model.opt.disableflags & (mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT):
        return
    for *geoms, _ in geom_pairs(model):
        moves = any(model.body_dofnum[model.body_weldid[model.geom_bodyid[geom]]] for geom in geoms)
        first, second = (mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_") for geom in geoms)
        if moves and second not in _EXACT_CONTACTS.get(first, ()):
            one, other = (name_of(model, "geom", geom) for geom in geoms[::-1])
            raise UserError(
                f"mjx: contact of the {second.lower()} {one} with the {first.lower()} {other} would not be MuJoCo's; "
                "make both spheres or capsules, or let them not touch (contype, conaffinity)"
            )


def _check_fields(model: mujoco.MjModel) -> None:
    """Raises UserError for the first feature that MJX leaves out."""
    for field, (kind, feature) in _LEFT_OUT.items():
        for index, value in enumerate(np.asarray(getattr(model, field))):
            if np.any(value):
                raise UserError(f"mjx: {feature} of {name_of(model, kind, index)} is not supported")
    for option in ("noslip_iterations", "disableactuator"):
        if getattr(model.opt, option):
            raise UserError(f"mjx: option {option} {getattr(model.opt, option)} is not supported, only 0")
    for index, kind_of_equality in enumerate(model.eq_type):
        kind = mujoco.mjtEq(kind_of_equality).name.removeprefix("mjEQ_").lower()
        if kind in ("connect", "weld"):
            raise UserError(
                f"mjx: the {kind} {name_of(model, 'equality', index)} would not be MuJoCo's: MJX leaves out a term of "
                "its velocity; join the bodies by joints"
            )


def check_carried_state(model: mujoco.MjModel, backend: str) -> None:
    """Raises UserError for models with state beyond positions, velocities and the warm start."""
    for count, what in (
        (model.na, "stateful actuators"),
        (model.nhistory, "delays (history buffers)"),
        (model.nplugin, "plugins"),
        (model.nflex, "flexes"),
    ):
        if count:
            raise UserError(f"{backend}: {what} are not supported, their state is not carried between steps")
