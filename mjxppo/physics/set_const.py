"""``mj_setConst`` for N worlds with their own parameters.

A constraint's softness is relative to the inverse inertia at its bodies and joints in the reference pose qpos0
(``body_invweight0``, ``dof_invweight0``, ``tendon_invweight0``). In that pose all axes are constants of the model, and
positions depend on ``body_pos`` and ``jnt_pos`` only. So M(qpos0) and its inverse are computed, and no kinematics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike

from mjxppo.physics.maths import Scalar
from mjxppo.physics.parameters import Parameters, nominal
from mjxppo.physics.sparse import Matrix, factorize, solve

_SOURCES = ("body_mass", "body_inertia", "body_ipos", "dof_armature")
"""The fields of masses and inertias."""
_POSITIONS = ("body_pos", "jnt_pos")
"""The fields of positions; the inertia depends on both."""


def set_const(model: mujoco.MjModel, parameters: Mapping[str, ArrayLike]) -> Parameters:
    """Adds ``body_invweight0``, ``dof_invweight0`` and ``tendon_invweight0`` to the parameters of N worlds.

    To be called whenever masses, inertias, centres of mass, armatures, or positions of bodies or joints were changed,
    as ``mj_setConst`` in C; without it they keep the model's own values. Elementwise over worlds: jittable, and
    the same bits for any N.

    Args:
        model: the nominal model.
        parameters: model fields, each [N, *shape of the field].
    """
    arrays = {name: jnp.asarray(value) for name, value in parameters.items()}
    given = [arrays[name] for name in (*_SOURCES, *_POSITIONS) if name in arrays]
    if not given:
        return arrays
    pose = _reference_pose(model)
    dtype = jnp.result_type(*given)

    def batch_last(name: str) -> jax.Array:
        if name in arrays:
            return jnp.moveaxis(arrays[name], 0, -1)
        return jnp.asarray(nominal(model, name)[..., None], dtype)

    moved = _moved(model, pose, {name: batch_last(name) for name in _POSITIONS if name in arrays})
    arms = pose.arms(batch_last("body_ipos"), moved)
    inverse = _inverse(model, _inertia(pose, arms, *(batch_last(name) for name in _SOURCES if name != "body_ipos")))
    translation = _trace(arms, inverse) / 3
    rotation = _trace(jnp.asarray(pose.rotations[..., None], dtype), inverse) / 3
    bodies = jnp.stack([translation, rotation], axis=1)
    dofs = jnp.stack([inverse[i, i] for i in range(model.nv)])
    tendons = _trace(jnp.asarray(pose.tendons[..., None, None], dtype), inverse)
    derived = {
        "body_invweight0": bodies,
        "dof_invweight0": _averaged_over_joints(model, dofs),
        "tendon_invweight0": tendons,
    }
    num_worlds = given[0].shape[0]
    shaped = {k: jnp.broadcast_to(x, (*x.shape[:-1], num_worlds)) for k, x in derived.items() if x.size}
    return arrays | {name: jnp.moveaxis(x, -1, 0) for name, x in shaped.items()}


@dataclass(frozen=True)
class _ReferencePose:
    """The model at qpos0, float64."""

    translations: np.ndarray
    """Velocity of each body's frame for a unit velocity of each dof, [nbody, nv, 3]."""
    turning: np.ndarray
    """Angular velocity of each body for a unit velocity of each dof, [nbody, nv, 3]."""
    rotations: np.ndarray
    """The same about the body's principal axes of inertia."""
    frames: np.ndarray
    """Orientation of each body, [nbody, 3, 3]."""
    tendons: np.ndarray
    """Rate of each tendon's length for a unit velocity of each dof, [ntendon, nv]."""
    tendon_inertia: np.ndarray
    """The tendons' armature in M, [nv, nv]."""

    def arms(self, ipos: jax.Array, moved: jax.Array | None) -> jax.Array:
        """Velocity of each body's centre of mass for a unit velocity of each dof, [nbody, nv, 3, N].

        ``ipos`` [nbody, 3, N] are the centres of mass in their bodies' frames; ``moved`` is the result of ``_moved``.
        """
        offset = (self.frames[..., None] * ipos[:, None]).sum(2)[:, None]
        offset = offset if moved is None else offset + moved
        turning = self.turning[..., None]
        turned = [
            turning[:, :, i - 2] * offset[:, :, i - 1] - turning[:, :, i - 1] * offset[:, :, i - 2] for i in range(3)
        ]
        return jnp.asarray(self.translations[..., None], ipos.dtype) + jnp.stack(turned, axis=2).astype(ipos.dtype)


def _reference_pose(model: mujoco.MjModel) -> _ReferencePose:
    data = mujoco.MjData(model)
    data.qpos[:] = model.qpos0
    mujoco.mj_forward(model, data)
    translations, turning = np.zeros((2, model.nbody, model.nv, 3))
    for body in range(model.nbody):
        jacobians = np.zeros((2, 3, model.nv))
        mujoco.mj_jacBody(model, data, *jacobians, body)
        translations[body], turning[body] = jacobians.swapaxes(1, 2)
    tendons = np.zeros((model.ntendon, model.nv))
    for tendon in range(model.ntendon):
        entries = model.ten_J_rowadr[tendon] + np.arange(model.ten_J_rownnz[tendon])
        tendons[tendon, model.ten_J_colind[entries]] = data.ten_J[entries]
    return _ReferencePose(
        translations=translations,
        turning=turning,
        rotations=turning @ data.ximat.reshape(-1, 3, 3),
        frames=data.xmat.reshape(-1, 3, 3).copy(),
        tendons=tendons,
        tendon_inertia=tendons.T * model.tendon_armature @ tendons,
    )


def _moved(model: mujoco.MjModel, pose: _ReferencePose, positions: dict[str, jax.Array]) -> jax.Array | None:
    """Change, against the nominal model, of the vector from each dof's joint to each body's frame at qpos0.

    [nbody, nv, 3, N]; ``positions`` holds N worlds' ``body_pos`` [nbody, 3, N] and ``jnt_pos`` [njnt, 3, N], where
    given.
    """
    if not positions:
        return None

    def change(name: str, index: int, body: int) -> jax.Array | float:
        """Change of a position in a body's frame, in the world's directions, [3, N]."""
        if name not in positions:
            return 0.0
        differs = positions[name][index] - nominal(model, name)[index][:, None].astype(positions[name].dtype)
        return (pose.frames[body][..., None].astype(differs.dtype) * differs).sum(1)

    # The position of a body with a free joint is in qpos0, and it turns about its own frame.
    free = set(model.jnt_bodyid[model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)].tolist())
    zero = jnp.zeros_like(next(iter(positions.values()))[0])
    bodies = [zero]
    for body in range(1, model.nbody):
        parent = int(model.body_parentid[body])
        bodies.append(zero if body in free else bodies[parent] + change("body_pos", body, parent))
    joints = [
        bodies[body] + (zero if body in free else change("jnt_pos", joint, body))
        for joint, body in enumerate(model.jnt_bodyid.tolist())
    ]
    dofs = [joints[joint] for joint in model.dof_jntid.tolist()]
    return jnp.stack([jnp.stack([body - dof for dof in dofs]) for body in bodies])


def _inertia(
    pose: _ReferencePose, arms: jax.Array, mass: jax.Array, inertia: jax.Array, armature: jax.Array
) -> jax.Array:
    """M at qpos0, [nv, nv, N], from ``arms`` [nbody, nv, 3, N] (``_ReferencePose.arms``).

    ``mass`` is [nbody, N], ``inertia`` about the principal axes [nbody, 3, N], and ``armature`` [nv, N].
    """
    turning = pose.rotations[..., None].astype(mass.dtype)
    translational = (mass[:, None, None, None] * arms[:, :, None] * arms[:, None]).sum((0, 3))
    rotational = (inertia[:, None, None] * turning[:, :, None] * turning[:, None]).sum((0, 3))
    diagonal = np.eye(len(armature), dtype=mass.dtype)[..., None] * armature
    return translational + rotational + diagonal + pose.tendon_inertia[..., None].astype(mass.dtype)


def _inverse(model: mujoco.MjModel, matrix: jax.Array) -> jax.Array:
    """The inverse of M, [nv, nv, N]: unrolled over its sparse entries, no call into LAPACK.

    Two dofs of different branches have no entry: MuJoCo, too, leaves out the armature of a tendon between them.
    """
    entries: Matrix = {(i, i): matrix[i, i] for i in range(model.nv)}
    for i in range(model.nv):
        ancestor = int(model.dof_parentid[i])
        while ancestor >= 0:
            entries[i, ancestor] = matrix[i, ancestor]
            ancestor = int(model.dof_parentid[ancestor])
    identity: list[Scalar] = [
        jnp.broadcast_to(row[:, None], matrix.shape[1:]) for row in np.eye(model.nv, dtype=matrix.dtype)
    ]
    return jnp.stack(solve(factorize(entries, model.nv), identity))


def _trace(jacobian: jax.Array, inverse: jax.Array) -> jax.Array:
    """tr(J M^-1 J^T) for Jacobians [n, nv, rows, N]: the inverse inertia that acts on each, [n, N]."""
    return (jacobian[:, :, None] * inverse[:, :, None] * jacobian[:, None]).sum((1, 2, 3))


def _averaged_over_joints(model: mujoco.MjModel, dofs: jax.Array) -> jax.Array:
    """Values of dofs [nv, N] averaged over the three translations, and the three rotations, of one joint."""
    group, groups = np.zeros(model.nv, int), 0
    for joint in range(model.njnt):
        kind, first = model.jnt_type[joint], model.jnt_dofadr[joint]
        sizes = {int(mujoco.mjtJoint.mjJNT_FREE): (3, 3), int(mujoco.mjtJoint.mjJNT_BALL): (3,)}.get(int(kind), (1,))
        for size in sizes:
            group[first : first + size] = groups
            first, groups = first + size, groups + 1
    return jnp.stack([dofs[np.flatnonzero(group == group[i])].mean(0) for i in range(model.nv)])
