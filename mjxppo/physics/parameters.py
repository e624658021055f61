"""Physical parameters that differ from world to world: MuJoCo's own model fields with a leading axis of worlds.

A world's parameters are part of its state (``PhysicsState.parameters``). A field that is not among them has the model's
own value in every world, as a constant of the program.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike

from mjxppo.errors import UserError

Parameters = dict[str, jax.Array]
"""Model fields by MuJoCo's names, each [N, *shape of the field]."""

FIELDS = (
    *("opt.gravity", "body_mass", "body_inertia", "body_ipos", "geom_friction"),
    *("body_pos", "jnt_pos", "geom_pos", "geom_size"),
    *("dof_armature", "dof_damping", "jnt_stiffness", "qpos_spring"),
    *("actuator_gear", "actuator_gainprm", "actuator_biasprm"),
    *("body_invweight0", "dof_invweight0", "tendon_invweight0"),
)
"""The fields that may differ between worlds. ``set_const`` derives the last three from others."""


def nominal(model: mujoco.MjModel, name: str) -> np.ndarray:
    """The model's own value of a field, float64."""
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return np.array(value, np.float64)


def checked_parameters(model: mujoco.MjModel, parameters: Mapping[str, ArrayLike], num_worlds: int) -> Parameters:
    """The parameters of N worlds as arrays.

    Raises:
        UserError: a field that cannot differ between worlds.
        ValueError: an array of the wrong shape.
    """
    arrays: Parameters = {}
    for name, value in parameters.items():
        if name not in FIELDS:
            raise UserError(f"parameters: {name} cannot differ between worlds; {', '.join(FIELDS)} can")
        arrays[name] = jnp.asarray(value)
        expected = (num_worlds, *nominal(model, name).shape)
        if arrays[name].shape != expected:
            raise ValueError(f"parameters[{name!r}] must be {list(expected)}, not {list(arrays[name].shape)}")
    return arrays


def modified_model(model: mujoco.MjModel, fields: Mapping[str, np.ndarray]) -> mujoco.MjModel:
    """A copy of the model with one world's parameters, for C MuJoCo; see ``modify_model``."""
    model = copy.copy(model)
    modify_model(model, fields)
    return model


def modify_model(model: mujoco.MjModel, fields: Mapping[str, np.ndarray]) -> None:
    """Gives a C MuJoCo model, in place, one world's parameters, each of the field's own shape; then ``mj_setConst``.

    Values given for fields that ``mj_setConst`` derives are overwritten.

    Raises:
        mujoco.FatalError: ``mj_setConst`` refuses: ``body_ipos`` of a body that was compiled as simple.
    """
    for name, value in fields.items():
        owner: Any = model
        *path, field = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        getattr(owner, field)[:] = value
    # Bounding boxes of bodies are relative to their centres of mass.
    if set(fields) & {"body_pos", "body_ipos", "geom_pos", "geom_size"}:
        _disable_bounds(model)
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _disable_bounds(model: mujoco.MjModel) -> None:
    """Disables bounding spheres and midphase of collision detection: they are for the compiled sizes and positions."""
    model.geom_rbound[model.geom_rbound > 0] = 1e3
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
