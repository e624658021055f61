"""The tree, its joints, actuators and limits, from a compiled ``MjModel``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import mujoco
import numpy as np

from mjxppo.physics.elements import Actuator, FrictionLoss, Limit, Tendon
from mjxppo.physics.maths import Scalar, add, dot, is_zero, mul, total
from mjxppo.physics.planar.compile.common import (
    OUT_OF_PLANE,
    disabled,
    float_pair,
    impedance,
    link_of,
    name_of,
    rounded,
    unsupported,
    xz,
)
from mjxppo.physics.planar.compile.contacts import compile_contacts
from mjxppo.physics.planar.compile.positions import Positions
from mjxppo.physics.planar.compile.support import INTEGRATORS, check_features
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.planar.model import Link, PlanarModel
from mjxppo.physics.planar.vector import Vector, scale2, sub2
from mjxppo.physics.tree import WORLD, Tree

_HINGE = int(mujoco.mjtJoint.mjJNT_HINGE)


def compile_model(model: mujoco.MjModel, parameters: Mapping[str, jax.Array] | None = None) -> PlanarModel:
    """Extracts the planar tree.

    Args:
        model: the model.
        parameters: fields of which each of N worlds has its own value, [N, ...] (``physics.parameters``). Numbers that
            depend on them are arrays [N] in the result, all others are constants.

    Raises:
        UnsupportedModelError: the model is not planar, or has a feature that would have to be approximated.
    """
    check_features(model)
    values = Values(model, parameters or {})
    pose = mujoco.MjData(model)
    pose.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, pose)
    positions = Positions(model, values, pose)
    origins = _link_origins(model, positions)
    links = tuple(_with_bodies(model, values, pose, positions, origins, dof) for dof in range(model.nv))
    loaded = {dof for dof, link in enumerate(links) if not is_zero(link.mass)}
    loaded |= {link_of(model, b) for b in range(1, model.nbody) if model.body_geomnum[b] > 0}
    plane_contacts, pair_contacts = compile_contacts(model, values, pose, positions, origins)
    return PlanarModel(
        timestep=float(model.opt.timestep),
        integrator=INTEGRATORS[int(model.opt.integrator)],
        # No joint can move along y, so gravity along y has no effect.
        gravity=(0.0, 0.0) if disabled(model, "GRAVITY") else _gravity(values),
        impratio=float(model.opt.impratio),
        implicit_damping=not disabled(model, "EULERDAMP"),
        mean_inertia=float(model.stat.meaninertia),
        links=links,
        trees=tuple(Tree(root, slides(links, root, loaded)) for root, link in enumerate(links) if link.parent == WORLD),
        tree_of=tree_of([link.parent for link in links]),
        actuators=compile_actuators(model, values),
        tendons=compile_tendons(model),
        actuator_force_ranges=tuple(
            float_pair(model.jnt_actfrcrange[j]) if model.jnt_actfrclimited[j] else None for j in range(model.njnt)
        ),
        limits=compile_limits(model, values),
        frictions=compile_frictions(model, values),
        plane_contacts=plane_contacts,
        pair_contacts=pair_contacts,
    )


def _gravity(values: Values) -> Vector:
    return rounded(values("opt.gravity", 0)), rounded(values("opt.gravity", 2))


def _link_origins(model: mujoco.MjModel, positions: Positions) -> list[Vector]:
    """World position of every link's origin at qpos0.

    A hinge's origin is its anchor. A slide's can be chosen: that of the hinge which follows in the same body,
    so that the hinge needs no offset; else the body's frame.
    """
    origins: list[Vector] = [(0.0, 0.0)] * model.nv
    for body in range(1, model.nbody):
        following = positions.body(body)
        first = model.body_jntadr[body]
        for joint in reversed(range(first, first + model.body_jntnum[body])):
            if model.jnt_type[joint] == _HINGE:
                following = positions.anchor(joint)
            origins[joint] = following
    return origins


def _joint(model: mujoco.MjModel, values: Values, pose: mujoco.MjData, origins: list[Vector], dof: int) -> Link:
    """A link without the bodies that it carries."""
    joint = int(model.dof_jntid[dof])
    hinge = bool(model.jnt_type[joint] == _HINGE)
    axis = pose.xaxis[joint]
    if hinge and max(abs(axis[0]), abs(axis[2])) > OUT_OF_PLANE:
        raise unsupported(f"the axis of hinge {name_of(model, 'joint', joint)}: it is not along y")
    if not hinge and abs(axis[1]) > OUT_OF_PLANE:
        raise unsupported(f"the axis of slide {name_of(model, 'joint', joint)}: it is not in the xz plane")
    parent = int(model.dof_parentid[dof])
    return Link(
        parent=parent if parent >= 0 else WORLD,
        kind="hinge" if hinge else "slide",
        axis=(0.0, 0.0) if hinge else xz(axis),
        sign=float(np.sign(axis[1])) if hinge else 0.0,
        offset=_rounded(sub2(origins[dof], origins[parent] if parent >= 0 else (0.0, 0.0))),
        qpos0=float(model.qpos0[dof]),
        mass=0.0,
        com=(0.0, 0.0),
        inertia=0.0,
        armature=values("dof_armature", dof),
        damping=0.0 if disabled(model, "DAMPER") else values("dof_damping", dof),
        stiffness=0.0 if disabled(model, "SPRING") else values("jnt_stiffness", joint),
        qpos_spring=values("qpos_spring", dof),
    )


def _with_bodies(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector], dof: int
) -> Link:
    """A link with the bodies it carries: its joint's, and those fixed to it. Offsets along y have no effect."""
    bodies = [b for b in range(1, model.nbody) if link_of(model, b) == dof]
    masses = [values("body_mass", b) for b in bodies]
    centers = [positions.center_of_mass(b) for b in bodies]
    mass = total(*masses)
    com = origins[dof]
    if len(bodies) == 1:
        com = centers[0]
    elif not is_zero(mass):
        moments = [scale2(m, center) for m, center in zip(masses, centers, strict=True)]
        com = total(*(x for x, _ in moments)) / mass, total(*(z for _, z in moments)) / mass
    inertia: Scalar = 0.0
    for b, m, center in zip(bodies, masses, centers, strict=True):
        # The principal axes need not lie in the plane: rotate the tensor, do not pick a component.
        inertia = add(inertia, dot(_squares(pose, b), tuple(values("body_inertia", b, i) for i in range(3))))
        arm = sub2(center, com)
        inertia = add(inertia, mul(m, dot(arm, arm)))
    link = _joint(model, values, pose, origins, dof)
    return replace(link, mass=mass, com=_rounded(sub2(com, origins[dof])), inertia=inertia)


def _rounded(v: Vector) -> Vector:
    return rounded(v[0]), rounded(v[1])


def _squares(pose: mujoco.MjData, body: int) -> tuple[float, ...]:
    """The weights of a body's three principal moments of inertia in its moment about y."""
    return tuple(float(x) ** 2 for x in pose.ximat[body].reshape(3, 3)[1])


def slides(links: Sequence[Any], root: int, loaded: set[int]) -> tuple[int, ...]:
    """The leading slides of a tree that carry nothing but the next link, except the last.

    ``loaded`` are the links that carry a mass or a geom.
    """
    prefix: list[int] = []
    k = root
    while links[k].kind == "slide":
        prefix.append(k)
        children = [c for c, link in enumerate(links) if link.parent == k]
        if k in loaded or len(children) != 1:
            break
        k = children[0]
    return tuple(prefix)


def tree_of(parents: Sequence[int]) -> tuple[int, ...]:
    """The index of each link's tree, from the links' parents."""
    roots = [k for k, parent in enumerate(parents) if parent == WORLD]
    trees: list[int] = []
    for k, parent in enumerate(parents):
        trees.append(roots.index(k) if parent == WORLD else trees[parent])
    return tuple(trees)


def _affine(values: Values, name: str, actuator: int) -> tuple[Scalar, Scalar, Scalar]:
    """(constant, by length, by velocity)."""
    return values(name, actuator, 0), values(name, actuator, 1), values(name, actuator, 2)


def compile_actuators(model: mujoco.MjModel, values: Values) -> tuple[Actuator, ...]:
    """The actuators that act, by control."""
    if disabled(model, "ACTUATION"):
        return ()
    actuators = []
    for u in range(model.nu):
        gain = _affine(values, "actuator_gainprm", u)
        bias = _affine(values, "actuator_biasprm", u)
        if model.actuator_gaintype[u] != int(mujoco.mjtGain.mjGAIN_AFFINE):
            gain = (gain[0], 0.0, 0.0)
        if model.actuator_biastype[u] != int(mujoco.mjtBias.mjBIAS_AFFINE):
            bias = (0.0, 0.0, 0.0)
        limited = model.actuator_ctrllimited[u] and not disabled(model, "CLAMPCTRL")
        actuators.append(
            Actuator(
                dof=int(model.jnt_dofadr[model.actuator_trnid[u, 0]]),
                gear=values("actuator_gear", u, 0),
                gain=gain,
                bias=bias,
                ctrlrange=float_pair(model.actuator_ctrlrange[u]) if limited else None,
                forcerange=float_pair(model.actuator_forcerange[u]) if model.actuator_forcelimited[u] else None,
            )
        )
    return tuple(actuators)


def compile_limits(model: mujoco.MjModel, values: Values) -> tuple[Limit, ...]:
    """The limits of slides and hinges."""
    if disabled(model, "CONSTRAINT") or disabled(model, "LIMIT"):
        return ()
    limits = []
    one_dof = np.isin(model.jnt_type, (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE))
    for joint in np.flatnonzero(model.jnt_limited & one_dof).tolist():
        lower, upper = float_pair(model.jnt_range[joint])
        margin = float(model.jnt_margin[joint])
        dof = int(model.jnt_dofadr[joint])
        owner = f"the limit of {name_of(model, 'joint', joint)}"
        limits.append(
            Limit(
                dof=dof,
                sides=("nearest",) if upper - lower >= 2 * margin else ("lower", "upper"),
                lower=lower,
                upper=upper,
                margin=margin,
                inv_weight=values("dof_invweight0", dof),
                impedance=impedance(model, model.jnt_solref[joint], model.jnt_solimp[joint], owner),
            )
        )
    return tuple(limits)


def compile_frictions(model: mujoco.MjModel, values: Values) -> tuple[FrictionLoss, ...]:
    """The dry friction of dofs."""
    if disabled(model, "CONSTRAINT") or disabled(model, "FRICTIONLOSS"):
        return ()
    frictions = []
    for dof in np.flatnonzero(model.dof_frictionloss > 0).tolist():
        owner = f"frictionloss of {name_of(model, 'joint', int(model.dof_jntid[dof]))}"
        frictions.append(
            FrictionLoss(
                dof=dof,
                loss=float(model.dof_frictionloss[dof]),
                inv_weight=values("dof_invweight0", dof),
                impedance=impedance(model, model.dof_solref[dof], model.dof_solimp[dof], owner),
            )
        )
    return tuple(frictions)


def compile_tendons(model: mujoco.MjModel) -> tuple[Tendon, ...]:
    """The fixed tendons with a spring or a damper."""
    tendons = []
    for tendon in range(model.ntendon):
        stiffness = 0.0 if disabled(model, "SPRING") else float(model.tendon_stiffness[tendon])
        damping = 0.0 if disabled(model, "DAMPER") else float(model.tendon_damping[tendon])
        if stiffness or damping:
            parts = range(model.tendon_adr[tendon], model.tendon_adr[tendon] + model.tendon_num[tendon])
            weights = tuple((int(model.jnt_dofadr[model.wrap_objid[k]]), float(model.wrap_prm[k])) for k in parts)
            tendons.append(Tendon(weights, stiffness, damping, float_pair(model.tendon_lengthspring[tendon])))
    return tuple(tendons)
