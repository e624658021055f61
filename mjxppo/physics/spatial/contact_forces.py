"""Contact forces on bodies at a known acceleration (the contacts' part of mj_rnePostConstraint)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.maths import Scalar, add, as_array, mul
from mjxppo.physics.planar.compile.common import name_of
from mjxppo.physics.planar.compile.contacts import can_touch
from mjxppo.physics.problem import Arrays
from mjxppo.physics.spatial.contact_rows import contact_groups
from mjxppo.physics.spatial.inertia import NO_FORCE, Force, add_forces
from mjxppo.physics.spatial.kinematics import Kinematics, forward_kinematics, spatial_motions
from mjxppo.physics.spatial.model import SpatialModel
from mjxppo.physics.spatial.pair import pair_gradients
from mjxppo.physics.spatial.vector import ZERO, Vector, add3, cross, scale3, sub3
from mjxppo.physics.tree import WORLD


def check_contact_forces(model: mujoco.MjModel) -> None:
    """Raises UnsupportedModelError where what moves, or is touched, is part of a body that is fixed to the world.

    MuJoCo's moments are about the centre of mass of all that hangs on such a body.
    """
    touched = {int(model.geom_bodyid[a]) for a in range(model.ngeom) for b in range(model.ngeom) if _meet(model, a, b)}
    for body in range(1, model.nbody):
        hangs = model.body_weldid[model.body_rootid[body]] == 0
        if hangs and (model.body_weldid[body] != 0 or body in touched):
            name = name_of(model, "body", body)
            raise UnsupportedModelError(f"contact forces where {name} hangs on a fixed body; put it into the worldbody")


def _meet(model: mujoco.MjModel, a: int, b: int) -> bool:
    return a != b and can_touch(model, min(a, b), max(a, b))


def contact_forces(model: SpatialModel, num_bodies: int, qpos: Arrays, qvel: Arrays, qacc: Arrays) -> jax.Array:
    """``cfrc_ext`` of N worlds, [N, num_bodies, 6], at the acceleration ``qacc`` that solves the problem of a state.

    ``qpos`` are nq arrays [N], ``qvel`` and ``qacc`` nv arrays [N].
    """
    kin = forward_kinematics(model, qpos, qvel)
    accelerations = spatial_motions(model, kin.axes, qacc)
    forces = [NO_FORCE] * num_bodies
    for group in contact_groups(model, kin, qpos[0]):
        residual = tuple(as_array(r, group.points.weight) for r in group.residual(accelerations))
        for body, against in group.gradients(residual):
            forces[body] = add_forces(forces[body], against)
    for pair in model.pair_contacts:
        for body, against in pair_gradients(model, pair, kin, qvel, qacc):
            forces[body] = add_forces(forces[body], against)
    centers = [_center_of_mass(model, kin, tree) for tree in range(len(model.trees))]
    touching = [(contact.body, contact.link) for contact in model.plane_contacts]
    touching += [(end.body, end.link) for pair in model.pair_contacts for end in (pair.first, pair.second)]
    tree_of = {body: model.tree_of[link] for body, link in touching if link != WORLD}
    zeros = jnp.zeros_like(qpos[0])
    numbers: list[Scalar] = []
    for body, force in enumerate(forces):
        numbers += _about(force, centers[tree_of[body]]) if body in tree_of else (0.0,) * 6
    columns = [as_array(mul(-1.0, x), zeros) for x in numbers]
    return jnp.stack(columns, axis=-1).reshape(-1, num_bodies, 6)


def _about(force: Force, center: Vector) -> tuple[Scalar, ...]:
    """A force at the reference point as its moment about a point relative to that, and itself."""
    return *sub3(force.moment, cross(center, force.linear)), *force.linear


def _center_of_mass(model: SpatialModel, kin: Kinematics, tree: int) -> Vector:
    """A tree's centre of mass (``subtree_com`` of its root), relative to its reference point."""
    mass: Scalar = 0.0
    moment = ZERO
    for k, link in enumerate(model.links):
        if model.tree_of[k] == tree:
            mass = add(mass, link.mass)
            moment = add3(moment, scale3(link.mass, kin.frames[k].point(link.com)))
    return scale3(1.0 / mass, moment)
