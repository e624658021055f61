"""The tree, its joints, actuators and limits, from a compiled ``MjModel``."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from mjxppo.physics.planar.compile.common import (
    OUT_OF_PLANE,
    disabled,
    impedance,
    link_of,
    name_of,
    pair,
    refuse,
    xz,
)
from mjxppo.physics.planar.compile.contacts import compile_contacts
from mjxppo.physics.planar.compile.support import check_features
from mjxppo.physics.planar.model import WORLD, Actuator, Limit, Link, PlanarModel, Tree

_HINGE = int(mujoco.mjtJoint.mjJNT_HINGE)


def compile_model(model: mujoco.MjModel) -> PlanarModel:
    """Extracts the planar tree.

    Raises:
        UnsupportedModelError: the model is not planar, or has a feature that would have to be approximated.
    """
    check_features(model)
    pose = mujoco.MjData(model)
    pose.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, pose)
    origins = _link_origins(model, pose)
    links = tuple(_with_bodies(model, pose, origins, dof) for dof in range(model.nv))
    loaded = {link_of(model, b) for b in range(1, model.nbody) if model.body_mass[b] > 0 or model.body_geomnum[b] > 0}
    plane_contacts, pair_contacts = compile_contacts(model, pose, origins)
    return PlanarModel(
        timestep=float(model.opt.timestep),
        integrator="euler" if model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER else "rk4",
        # Gravity along y moves nothing that can move.
        gravity=(0.0, 0.0) if disabled(model, "GRAVITY") else xz(model.opt.gravity),
        impratio=float(model.opt.impratio),
        implicit_damping=not disabled(model, "EULERDAMP"),
        mean_inertia=float(model.stat.meaninertia),
        links=links,
        trees=tuple(_tree(links, root, loaded) for root, link in enumerate(links) if link.parent == WORLD),
        tree_of=_tree_of(links),
        actuators=_actuators(model),
        actuator_force_ranges=tuple(
            pair(model.jnt_actfrcrange[j]) if model.jnt_actfrclimited[j] else None for j in range(model.njnt)
        ),
        limits=_limits(model),
        plane_contacts=plane_contacts,
        pair_contacts=pair_contacts,
    )


def _link_origins(model: mujoco.MjModel, pose: mujoco.MjData) -> np.ndarray:
    """World position of every link's origin at qpos0, [nv, 3].

    A hinge's origin is its anchor. A slide's can be chosen: that of the hinge which follows in the same body,
    so that the hinge needs no offset; else the body's frame.
    """
    origins = np.zeros((model.nv, 3))
    for body in range(1, model.nbody):
        following = pose.xpos[body]
        first = model.body_jntadr[body]
        for joint in reversed(range(first, first + model.body_jntnum[body])):
            if model.jnt_type[joint] == _HINGE:
                following = pose.xanchor[joint]
            origins[joint] = following
    return origins


def _joint(model: mujoco.MjModel, pose: mujoco.MjData, origins: np.ndarray, dof: int) -> Link:
    """A link without its body."""
    joint = int(model.dof_jntid[dof])
    hinge = bool(model.jnt_type[joint] == _HINGE)
    axis = pose.xaxis[joint]
    if hinge and max(abs(axis[0]), abs(axis[2])) > OUT_OF_PLANE:
        raise refuse(f"the axis of hinge {name_of(model, 'joint', joint)}: it is not along y")
    if not hinge and abs(axis[1]) > OUT_OF_PLANE:
        raise refuse(f"the axis of slide {name_of(model, 'joint', joint)}: it is not in the xz plane")
    parent = int(model.dof_parentid[dof])
    return Link(
        parent=parent if parent >= 0 else WORLD,
        kind="hinge" if hinge else "slide",
        axis=(0.0, 0.0) if hinge else xz(axis),
        sign=float(np.sign(axis[1])) if hinge else 0.0,
        offset=xz(origins[dof] - (origins[parent] if parent >= 0 else 0.0)),
        qpos0=float(model.qpos0[dof]),
        mass=0.0,
        com=(0.0, 0.0),
        inertia=0.0,
        armature=float(model.dof_armature[dof]),
        damping=0.0 if disabled(model, "DAMPER") else float(model.dof_damping[dof]),
        stiffness=0.0 if disabled(model, "SPRING") else float(model.jnt_stiffness[joint]),
        qpos_spring=float(model.qpos_spring[dof]),
    )


def _with_bodies(model: mujoco.MjModel, pose: mujoco.MjData, origins: np.ndarray, dof: int) -> Link:
    """A link with the bodies it carries: its joint's, and those fixed to it. Offsets along y play no part."""
    bodies = [b for b in range(1, model.nbody) if link_of(model, b) == dof]
    mass = sum(float(model.body_mass[b]) for b in bodies)
    com = origins[dof]
    if mass > 0:
        com = sum((model.body_mass[b] * pose.xipos[b] for b in bodies), np.zeros(3)) / mass
    inertia = 0.0
    for b in bodies:
        # The principal axes need not lie in the plane: rotate the tensor, do not pick a component.
        rotation = pose.ximat[b].reshape(3, 3)
        inertia += float((rotation * model.body_inertia[b] @ rotation.T)[1, 1])
        inertia += float(model.body_mass[b] * np.sum((pose.xipos[b] - com)[[0, 2]] ** 2))
    link = _joint(model, pose, origins, dof)
    return replace(link, mass=mass, com=xz(com - origins[dof]), inertia=inertia)


def _tree(links: tuple[Link, ...], root: int, loaded: set[int]) -> Tree:
    """A tree with its prefix; ``loaded`` are the links that carry a mass or a geom."""
    prefix: list[int] = []
    k = root
    while links[k].kind == "slide":
        prefix.append(k)
        children = [c for c, link in enumerate(links) if link.parent == k]
        if k in loaded or len(children) != 1:
            break
        k = children[0]
    return Tree(root=root, prefix=tuple(prefix))


def _tree_of(links: tuple[Link, ...]) -> tuple[int, ...]:
    roots = [k for k, link in enumerate(links) if link.parent == WORLD]
    trees: list[int] = []
    for k, link in enumerate(links):
        trees.append(roots.index(k) if link.parent == WORLD else trees[link.parent])
    return tuple(trees)


def _affine(parameters: np.ndarray, affine: bool) -> tuple[float, float, float]:
    """(constant, by length, by velocity)."""
    constant, length, velocity = (float(x) for x in parameters[:3])
    return (constant, length, velocity) if affine else (constant, 0.0, 0.0)


def _actuators(model: mujoco.MjModel) -> tuple[Actuator, ...]:
    if disabled(model, "ACTUATION"):
        return ()
    actuators = []
    for u in range(model.nu):
        biased = model.actuator_biastype[u] == int(mujoco.mjtBias.mjBIAS_AFFINE)
        limited = model.actuator_ctrllimited[u] and not disabled(model, "CLAMPCTRL")
        actuators.append(
            Actuator(
                dof=int(model.jnt_dofadr[model.actuator_trnid[u, 0]]),
                gear=float(model.actuator_gear[u, 0]),
                gain=_affine(
                    model.actuator_gainprm[u], model.actuator_gaintype[u] == int(mujoco.mjtGain.mjGAIN_AFFINE)
                ),
                bias=_affine(model.actuator_biasprm[u] * biased, biased),
                ctrlrange=pair(model.actuator_ctrlrange[u]) if limited else None,
                forcerange=pair(model.actuator_forcerange[u]) if model.actuator_forcelimited[u] else None,
            )
        )
    return tuple(actuators)


def _limits(model: mujoco.MjModel) -> tuple[Limit, ...]:
    if disabled(model, "CONSTRAINT") or disabled(model, "LIMIT"):
        return ()
    limits = []
    for joint in np.flatnonzero(model.jnt_limited).tolist():
        lower, upper = pair(model.jnt_range[joint])
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
                inv_weight=float(model.dof_invweight0[dof]),
                impedance=impedance(model, model.jnt_solref[joint], model.jnt_solimp[joint], owner),
            )
        )
    return tuple(limits)
