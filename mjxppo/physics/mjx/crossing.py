"""Contacts of two capsules whose axes cross, for which MJX and C MuJoCo choose different normals.

The normal of two capsules is the direction from the nearest point of one axis to that of the other. Where the axes
cross these are one point. C MuJoCo then takes the cross product of the axes (engine_collision_primitive.c:
mjraw_SphereSphere), MJX what rounding leaves of the direction. The limbs of a robot that moves in a plane cross in this
way whenever one passes another: in C nothing pushes them within their plane.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx
from mujoco.mjx._src.collision_driver import geom_pairs
from mujoco.mjx._src.math import make_frame

Array = jax.Array

_CAPSULE = int(mujoco.mjtGeom.mjGEOM_CAPSULE)
_NEAR = 1e-3
"""Two axes cross where the distance that MJX finds is below this, relative to the sum of the radii. Its nearest points
are exact to about 1e-6; of axes that pass each other at such a distance the normal is the cross product, too."""
_SIDE = 1e-6
"""Below this distance along the normal, relative as well, C MuJoCo's rule gives the sign, else the direction does."""


def has_capsule_pairs(model: mujoco.MjModel) -> bool:
    """Whether two capsules of the model can touch each other."""
    return any(model.geom_type[a] == model.geom_type[b] == _CAPSULE for a, b, _ in geom_pairs(model))


def with_crossing_normals(m: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The data of one world after ``mjx.collision``, with C MuJoCo's contact frames where axes of capsules cross."""
    impl: Any = data._impl
    contact = impl.contact
    is_capsule = jnp.asarray(m.geom_type == _CAPSULE)

    def of_contact(geom: Array, dist: Array, pos: Array, frame: Array) -> tuple[Array, Array]:
        first, second = geom[0], geom[1]
        radii = m.geom_size[first, 0] + m.geom_size[second, 0]
        apart = dist + radii
        across = jnp.cross(data.geom_xmat[first, :, 2], data.geom_xmat[second, :, 2])
        length = jnp.sqrt(jnp.sum(across**2) + jnp.finfo(across.dtype).tiny)
        normal = across / length
        side = apart * jnp.dot(frame[0], normal)
        normal = jnp.where(side < -_SIDE * radii, -normal, normal)
        crosses = is_capsule[first] & is_capsule[second] & (apart < _NEAR * radii) & (length > _NEAR)
        to_middle = m.geom_size[first, 0] + dist / 2
        moved = pos + (normal - frame[0]) * to_middle
        return jnp.where(crosses, moved, pos), jnp.where(crosses, make_frame(normal), frame)

    pos, frame = jax.vmap(of_contact)(contact.geom, contact.dist, contact.pos, contact.frame)
    return data.tree_replace({"_impl.contact.pos": pos, "_impl.contact.frame": frame})
