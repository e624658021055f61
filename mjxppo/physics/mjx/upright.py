"""Contacts of capsules with planes, for which MJX and C MuJoCo choose different directions of friction.

Friction pulls along two tangents of the plane, and the pyramid that stands for its cone depends on them. C MuJoCo takes
the capsule's axis, without its part along the plane's normal, for the first (engine_collision_primitive.c:
mjc_PlaneCapsule; mju_makeFrame), however steep the capsule stands. MJX does so where the angle between axis and normal
is more than 30 degrees; of a steeper capsule it takes y or z, and does not make it a tangent of a plane that is tilted.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx
from mujoco.mjx._src.collision_driver import geom_pairs

Array = jax.Array

_PLANE, _CAPSULE = (int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("PLANE", "CAPSULE"))


def has_capsules_on_planes(model: mujoco.MjModel) -> bool:
    """Whether a capsule of the model can touch a plane."""
    pairs = ({int(model.geom_type[a]), int(model.geom_type[b])} for a, b, _ in geom_pairs(model))
    return any(kinds == {_PLANE, _CAPSULE} for kinds in pairs)


def with_capsule_tangents(m: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The data of one world after ``mjx.collision``, with C MuJoCo's contact frames of capsules on planes."""
    impl: Any = data._impl
    contact = impl.contact
    kind = jnp.asarray(m.geom_type)

    def of_contact(geom: Array, frame: Array) -> Array:
        normal, axis = frame[0], data.geom_xmat[geom[1], :, 2]
        along = axis - jnp.dot(normal, axis) * normal
        squared = jnp.sum(along**2)
        # Of an upright capsule MuJoCo normalises a vector of length 0 to x.
        least = 1e-30 if along.dtype == jnp.float64 else 1e-14
        upright = squared < least
        first = jnp.where(upright, jnp.eye(3, dtype=along.dtype)[0], along / jnp.sqrt(jnp.maximum(squared, least)))
        stands = (kind[geom[0]] == _PLANE) & (kind[geom[1]] == _CAPSULE)
        return jnp.where(stands, jnp.stack([normal, first, jnp.cross(normal, first)]), frame)

    return data.tree_replace({"_impl.contact.frame": jax.vmap(of_contact)(contact.geom, contact.frame)})
