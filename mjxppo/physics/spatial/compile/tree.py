"""The tree, its joints, actuators and limits, from a compiled ``MjModel``."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import mujoco

from mjxppo.physics.maths import Scalar, add, is_zero, mul, total
from mjxppo.physics.planar.compile.common import disabled, float_pair, link_of_joints, rounded
from mjxppo.physics.planar.compile.support import INTEGRATORS
from mjxppo.physics.planar.compile.tree import (
    compile_actuators,
    compile_frictions,
    compile_limits,
    compile_tendons,
    slides,
    tree_of,
)
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.spatial.compile.balls import compile_ball_limits, compile_ball_springs
from mjxppo.physics.spatial.compile.contacts import compile_contacts
from mjxppo.physics.spatial.compile.medium import compile_medium
from mjxppo.physics.spatial.compile.positions import Positions, constant, matrix
from mjxppo.physics.spatial.compile.support import check_features
from mjxppo.physics.spatial.model import Dof, Kind, Link, SpatialModel
from mjxppo.physics.spatial.vector import IDENTITY, ZERO, Symmetric, Vector, add_symmetric, rotated, scale3, sub3
from mjxppo.physics.tree import WORLD, Tree

_KINDS: dict[int, Kind] = {0: "free", 1: "ball", 2: "slide", 3: "hinge"}
"""mjtJoint."""


def compile_model(model: mujoco.MjModel, parameters: Mapping[str, jax.Array] | None = None) -> SpatialModel:
    """Extracts the tree.

    Args:
        model: the model.
        parameters: fields of which each of N worlds has its own value, [N, ...] (``physics.parameters``). Numbers that
            depend on them are arrays [N] in the result, all others are constants.

    Raises:
        UnsupportedModelError: the model has a feature that would have to be approximated.
    """
    check_features(model)
    values = Values(model, parameters or {})
    pose = mujoco.MjData(model)
    pose.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, pose)
    positions = Positions(model, values, pose)
    origins = _link_origins(model, positions)
    links = tuple(_link(model, values, pose, positions, origins, joint) for joint in range(model.njnt))
    loaded = {k for k, link in enumerate(links) if not is_zero(link.mass)}
    plane_contacts, pair_contacts = compile_contacts(model, values, pose, positions, origins)
    loaded |= {link_of_joints(model, b) for b in range(1, model.nbody) if model.body_geomnum[b] > 0}
    return SpatialModel(
        timestep=float(model.opt.timestep),
        integrator=INTEGRATORS[int(model.opt.integrator)],
        gravity=ZERO if disabled(model, "GRAVITY") else _gravity(values),
        impratio=float(model.opt.impratio),
        implicit_damping=not disabled(model, "EULERDAMP"),
        mean_inertia=float(model.stat.meaninertia),
        links=links,
        trees=tuple(Tree(root, slides(links, root, loaded)) for root, link in enumerate(links) if link.parent == WORLD),
        tree_of=tree_of([link.parent for link in links]),
        dofs=tuple(_dof(model, values, dof) for dof in range(model.nv)),
        qpos_of_dof=tuple(_qpos_of(model, int(joint)) for joint in model.dof_jntid),
        actuators=compile_actuators(model, values),
        tendons=compile_tendons(model),
        actuator_force_ranges=tuple(_force_range(model, int(joint)) for joint in model.dof_jntid),
        limits=compile_limits(model, values),
        frictions=compile_frictions(model, values),
        ball_springs=compile_ball_springs(model, values),
        ball_limits=compile_ball_limits(model, values),
        plane_contacts=plane_contacts,
        pair_contacts=pair_contacts,
        medium=compile_medium(model, values, pose, positions, origins),
    )


def _gravity(values: Values) -> Vector:
    x, y, z = (rounded(values("opt.gravity", i)) for i in range(3))
    return x, y, z


def _qpos_of(model: mujoco.MjModel, joint: int) -> int:
    return int(model.jnt_qposadr[joint]) if _KINDS[int(model.jnt_type[joint])] in ("slide", "hinge") else -1


def _force_range(model: mujoco.MjModel, joint: int) -> tuple[float, float] | None:
    return float_pair(model.jnt_actfrcrange[joint]) if model.jnt_actfrclimited[joint] else None


def _dof(model: mujoco.MjModel, values: Values, dof: int) -> Dof:
    joint = int(model.dof_jntid[dof])
    position = _qpos_of(model, joint)
    springs = position >= 0 and not disabled(model, "SPRING")
    return Dof(
        armature=values("dof_armature", dof),
        damping=0.0 if disabled(model, "DAMPER") else values("dof_damping", dof),
        stiffness=values("jnt_stiffness", joint) if springs else 0.0,
        qpos_spring=values("qpos_spring", position) if springs else 0.0,
    )


def _link_origins(model: mujoco.MjModel, positions: Positions) -> list[Vector]:
    """World position of every link's origin at qpos0.

    A hinge's and a ball's origin is the anchor, a free joint's the body's. A slide's can be chosen: that of the joint
    which follows in the same body, so that this one needs no offset; else the body's frame.
    """
    origins: list[Vector] = [ZERO] * model.njnt
    for body in range(1, model.nbody):
        following = positions.body(body)
        first = int(model.body_jntadr[body])
        for joint in reversed(range(first, first + int(model.body_jntnum[body]))):
            if _KINDS[int(model.jnt_type[joint])] in ("hinge", "ball"):
                following = positions.anchor(joint)
            origins[joint] = following
    return origins


def _parent(model: mujoco.MjModel, joint: int) -> int:
    """The link below which a joint hangs, or WORLD."""
    body = int(model.jnt_bodyid[joint])
    if joint > model.body_jntadr[body]:
        return joint - 1
    return link_of_joints(model, int(model.body_parentid[body]))


def _link(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector], joint: int
) -> Link:
    """A joint and the bodies it carries: its own, and those fixed to it."""
    kind = _KINDS[int(model.jnt_type[joint])]
    several = kind in ("ball", "free")
    parent = _parent(model, joint)
    mass, com, inertia = _carried(model, values, pose, positions, origins[joint], joint)
    return Link(
        parent=parent,
        kind=kind,
        qpos_at=int(model.jnt_qposadr[joint]),
        dof_at=int(model.jnt_dofadr[joint]),
        axis=(0.0, 0.0, 0.0) if several else constant(pose.xaxis[joint]),
        offset=_rounded(origins[joint] if parent == WORLD else sub3(origins[joint], origins[parent])),
        body_rotation=matrix(pose.xmat[model.jnt_bodyid[joint]]) if several else IDENTITY,
        qpos0=0.0 if several else float(model.qpos0[model.jnt_qposadr[joint]]),
        mass=mass,
        com=_rounded(sub3(com, origins[joint])),
        inertia=inertia,
    )


def _carried(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origin: Vector, link: int
) -> tuple[Scalar, Vector, Symmetric]:
    """Mass, centre of mass in the world at qpos0, and inertia at it, of the bodies that a link carries."""
    bodies = [b for b in range(1, model.nbody) if link_of_joints(model, b) == link]
    masses = [values("body_mass", b) for b in bodies]
    centers = [positions.center_of_mass(b) for b in bodies]
    mass = total(*masses)
    com = origin
    if len(bodies) == 1:
        com = centers[0]
    elif not is_zero(mass):
        moments = [scale3(m, center) for m, center in zip(masses, centers, strict=True)]
        x, y, z = (total(*(moment[i] for moment in moments)) / mass for i in range(3))
        com = x, y, z
    inertia: Symmetric = (0.0,) * 6
    for b, m, center in zip(bodies, masses, centers, strict=True):
        x, y, z = (values("body_inertia", b, i) for i in range(3))
        principal = rotated(matrix(pose.ximat[b]), (x, 0.0, 0.0, y, 0.0, z))
        inertia = add_symmetric(inertia, add_symmetric(principal, _point_mass(m, sub3(center, com))))
    a, b_, c, d, e, f = (rounded(entry) for entry in inertia)
    return mass, com, (a, b_, c, d, e, f)


def _point_mass(mass: Scalar, arm: Vector) -> Symmetric:
    """M (|r|^2 1 - r r^T)."""
    x, y, z = arm
    xx, yy, zz = mul(x, x), mul(y, y), mul(z, z)
    return (
        *(mul(mass, add(yy, zz)), mul(mass, mul(-1.0, mul(x, y))), mul(mass, mul(-1.0, mul(x, z)))),
        *(mul(mass, add(xx, zz)), mul(mass, mul(-1.0, mul(y, z))), mul(mass, add(xx, yy))),
    )


def _rounded(v: Vector) -> Vector:
    return rounded(v[0]), rounded(v[1]), rounded(v[2])
