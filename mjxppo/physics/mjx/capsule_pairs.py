"""Contacts of capsules with capsules and spheres as C MuJoCo has them (engine_collision_primitive.c:
mjraw_CapsuleCapsule, mjraw_SphereCapsule).

MJX adds 1e-6 to a divisor where it looks for the nearest points of the axes. These are inexact then, above all where
axes are nearly parallel, and so is the direction between points that are near each other. And where the axes cross, the
nearest points are one point: C MuJoCo then takes the cross product of the axes for the contact's normal, MJX what
rounding leaves of a direction. The limbs of a robot that moves in a plane cross in this way whenever one passes
another: in C nothing pushes them within their plane.
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
_SPHERE = int(mujoco.mjtGeom.mjGEOM_SPHERE)
_NEAR = {"float64": 1e-9, "float32": 1e-5}
"""Two axes cross where they are nearer than this, relative to the sum of the radii: rounding leaves no direction."""


def has_capsule_pairs(model: mujoco.MjModel) -> bool:
    """Whether a capsule of the model can touch another capsule or a sphere."""
    pairs = ({int(model.geom_type[a]), int(model.geom_type[b])} for a, b, _ in geom_pairs(model))
    return any(pair in ({_CAPSULE}, {_CAPSULE, _SPHERE}) for pair in pairs)


def with_capsule_pairs(m: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The data of one world after ``mjx.collision``, with C MuJoCo's contacts of capsules.

    Those of parallel capsules stay MJX's, which has one where C MuJoCo has two.
    """
    impl: Any = data._impl
    contact = impl.contact
    is_capsule, is_sphere = (jnp.asarray(m.geom_type == kind) for kind in (_CAPSULE, _SPHERE))

    def of_contact(geom: Array, *found: Array) -> tuple[Array, ...]:
        (one, other), size, matrix = geom, m.geom_size, data.geom_xmat
        axes, lengths = (matrix[one, :, 2], matrix[other, :, 2]), (size[one, 1], size[other, 1])
        across = jnp.cross(*axes)
        squared = jnp.sum(across**2)
        between = data.geom_xpos[one] - data.geom_xpos[other]
        of_axes = _nearest(axes, lengths, squared, between)
        # MJX names the sphere first.
        on_axis = jnp.clip(jnp.dot(axes[1], between), -lengths[1], lengths[1])
        positions = jnp.where(is_sphere[one], jnp.stack([0 * on_axis, on_axis]), jnp.stack(of_axes))
        first, second = (data.geom_xpos[i] + x * a for i, x, a in zip((one, other), positions, axes, strict=True))
        radii = size[one, 0] + size[other, 0]
        parallel = squared <= jnp.finfo(squared.dtype).eps
        # C MuJoCo normalises a vector of length 0 to x.
        unit = jnp.where(
            parallel, jnp.eye(3, dtype=across.dtype)[0], across / jnp.sqrt(jnp.where(parallel, 1, squared))
        )
        apart, normal = _direction(second - first, unit, radii)
        dist = apart - radii
        pos = first + normal * (size[one, 0] + dist / 2)
        replaces = is_capsule[other] & (is_sphere[one] | is_capsule[one] & ~parallel)
        own = dist, pos, make_frame(normal)
        return tuple(jnp.where(replaces, new, old) for new, old in zip(own, found, strict=True))

    fields = ("dist", "pos", "frame")
    new = jax.vmap(of_contact)(contact.geom, *(getattr(contact, name) for name in fields))
    return data.tree_replace({f"_impl.contact.{name}": x for name, x in zip(fields, new, strict=True)})


def _nearest(axes: tuple[Array, Array], lengths: tuple[Array, Array], squared: Array, between: Array) -> list[Array]:
    """How far along each axis from its middle (m) the nearest points of two segments lie.

    ``axes`` [3] are unit vectors, ``lengths`` half the segments', ``squared`` the squared sine of the angle between
    them, and ``between`` [3] goes from the second's middle to the first's.
    """
    cosine = jnp.dot(*axes)
    along = -jnp.dot(axes[0], between), jnp.dot(axes[1], between)
    divisor = jnp.maximum(squared, jnp.finfo(squared.dtype).tiny)
    first, second = (along[0] + cosine * along[1]) / divisor, (along[1] + cosine * along[0]) / divisor
    beyond = jnp.abs(first) > lengths[0]
    first = jnp.clip(first, -lengths[0], lengths[0])
    second = jnp.where(beyond, along[1] + cosine * first, second)
    beyond = jnp.abs(second) > lengths[1]
    second = jnp.clip(second, -lengths[1], lengths[1])
    return [jnp.where(beyond, jnp.clip(along[0] + cosine * second, -lengths[0], lengths[0]), first), second]


def _direction(offset: Array, across: Array, radii: Array) -> tuple[Array, Array]:
    """Length and direction of ``offset`` [3] from one axis to the other; ``across`` [3] is their normalised product."""
    squared = jnp.sum(offset**2)
    apart = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    crosses = apart < _NEAR[str(offset.dtype)] * radii
    return apart, jnp.where(crosses, across, offset / jnp.where(crosses, 1, apart))
