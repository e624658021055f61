"""The robot's model: which file is meant, what a task needs of it, and what its actions mean."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings

_FIELD = "env_options.xml_file"


def model_file(xml_file: str | bytes | os.PathLike[str]) -> str:
    """The name of a file that comes with this package or Gymnasium, as it is, or the absolute path of any other.

    A name without a directory is that of such a file, where there is one. Everything else is a path: absolute, from the
    home directory (``~``), or from the working directory. Raises UserError where there is no such file.
    """
    name = os.fsdecode(xml_file)
    try:
        if _shipped(name) is not None:
            return name
        path = Path(name).expanduser().absolute()
        if path.is_file():
            return str(path)
    except (OSError, RuntimeError) as error:  # a name that is too long; the home of a user who is not here
        raise UserError(
            f"{_FIELD}: {name[:200]} cannot be a file: {getattr(error, 'strerror', None) or error}"
        ) from error
    raise UserError(f"{_FIELD}: there is no file {path}")


def robot_model(xml_file: str | os.PathLike[str]) -> mujoco.MjModel:
    """Compiles the model in a file, named as in ``model_file``; raises UserError where MuJoCo cannot simulate it."""
    path = path_of(model_file(xml_file))
    try:
        with without_model_warnings():
            model = mujoco.MjModel.from_xml_path(str(path))
            mujoco.mj_step(model, mujoco.MjData(model))  # it may not fit into the memory that the file gives it
            return model
    except (ValueError, mujoco.FatalError) as error:
        raise UserError(f"{_FIELD}: MuJoCo cannot load {path}: {' '.join(str(error).split())}") from error


def path_of(model_file: str) -> Path:
    """The path of a file that ``model_file`` has named."""
    return _shipped(model_file) or Path(model_file)


def _shipped(name: str) -> Path | None:
    """The path of a model that comes with this package or the installed ``gymnasium``; None if neither has it."""
    spec = find_spec("gymnasium")
    assert spec is not None and spec.origin is not None, "gymnasium is a dependency of this package"
    folders = Path(__file__).parent / "robots", Path(spec.origin).parent / "envs" / "mujoco" / "assets"
    paths = (folder / name for folder in folders) if Path(name).name == name else ()
    return next((path for path in paths if path.is_file()), None)


def check_root(model: mujoco.MjModel, axes: tuple[str, ...]) -> None:
    """Checks that the model's first joints are the root's, one for each of ``axes``: "x", "y", "z", "angle", or "free".

    Gymnasium's environments, in which policies are evaluated, take the first numbers of qpos for the root's position.
    Raises UserError, which names the joint and what it has to be.
    """
    if axes == ("free",):
        return _check_free_root(model)
    wanted = {
        "x": (mujoco.mjtJoint.mjJNT_SLIDE, (1, 0, 0), "slide along x"),
        "y": (mujoco.mjtJoint.mjJNT_SLIDE, (0, 1, 0), "slide along y"),
        "z": (mujoco.mjtJoint.mjJNT_SLIDE, (0, 0, 1), "slide along z"),
        "angle": (mujoco.mjtJoint.mjJNT_HINGE, (0, 1, 0), "hinge about y"),
    }
    ordinals = ("first", "second", "third")
    needed = ", ".join(f"{ordinal} {wanted[axis][2]}" for ordinal, axis in zip(ordinals, axes, strict=False))
    if model.njnt < len(axes):
        raise UserError(f"{_FIELD}: has {model.njnt} joints; the task needs a root of {len(axes)}: {needed}")
    rest = _at_rest(model)
    for i, (ordinal, axis) in enumerate(zip(ordinals, axes, strict=False)):
        kind, direction, text = wanted[axis]
        along = np.abs(rest.xmat[model.jnt_bodyid[i]].reshape(3, 3) @ model.jnt_axis[i] @ direction)
        if int(model.jnt_type[i]) != kind or not np.isclose(along, 1):
            name = _name(model, mujoco.mjtObj.mjOBJ_JOINT, i)
            raise UserError(f"{_FIELD}: the {ordinal} joint, {name}, must {text}; the root is: {needed}")


def _check_free_root(model: mujoco.MjModel) -> None:
    """Raises UserError unless the first body has a free joint: Gymnasium takes this body for the torso."""
    needed = "the first body must be the torso, with a free joint"
    if not model.njnt or model.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
        named = (
            f"the first joint, {_name(model, mujoco.mjtObj.mjOBJ_JOINT, 0)}, is not free"
            if model.njnt
            else "has no joint"
        )
        raise UserError(f"{_FIELD}: {named}; {needed}")
    if model.jnt_bodyid[0] != 1:
        raise UserError(
            f"{_FIELD}: the first body, {_name(model, mujoco.mjtObj.mjOBJ_BODY, 1)}, has no joint; {needed}"
        )


def check_actuators(model: mujoco.MjModel) -> None:
    """Checks that there are actuators and that each has a range; raises UserError, which names what has not."""
    if model.nu == 0:
        raise UserError(f"{_FIELD}: has no actuator, and a policy nothing to act with")
    for i in range(model.nu):
        name = _name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, i)
        if not model.actuator_ctrllimited[i]:
            raise UserError(
                f"{_FIELD}: the actuator {name} has no ctrlrange, for which [-1, 1] could stand; give it one"
            )
        # MuJoCo takes such a control for a broken one, and sets all controls to 0 (mj_fwdActuation).
        if not np.abs(model.actuator_ctrlrange[i]).max() <= mujoco.mjMAXVAL:
            low, high = model.actuator_ctrlrange[i]
            raise UserError(
                f"{_FIELD}: the actuator {name} has the ctrlrange {low:g} to {high:g}, and MuJoCo takes no control "
                f"beyond {mujoco.mjMAXVAL:g}; give it a smaller one"
            )


def check_ground(model: mujoco.MjModel) -> None:
    """Raises UserError where the robot would fall without end: its root can move along z, and nothing can hold it.

    The model's first joints are the root's (``check_root``).
    """
    option, flags = model.opt, mujoco.mjtDisableBit
    weightless = not option.gravity[2] or option.disableflags & flags.mjDSBL_GRAVITY or model.ngravcomp
    if weightless or option.density or option.viscosity or model.neq or model.ntendon:
        return
    rest = _at_rest(model)
    for joint in range(min(model.njnt, 3)):
        kind = int(model.jnt_type[joint])
        slides = kind == mujoco.mjtJoint.mjJNT_SLIDE and abs(rest.xaxis[joint, 2]) > 0.5
        slides |= kind == mujoco.mjtJoint.mjJNT_FREE
        held = model.jnt_limited[joint] or model.jnt_stiffness[joint] or np.any(model.jnt_stiffnesspoly[joint])
        if slides and not held and joint not in model.actuator_trnid[:, 0] and not _can_touch_the_world(model):
            name = _name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
            raise UserError(
                f"{_FIELD}: has no ground: the joint {name} lets the robot fall, and it can touch nothing; add a "
                "plane, or let contype and conaffinity of their geoms meet"
            )


def _can_touch_the_world(model: mujoco.MjModel) -> bool:
    """Whether a geom of the robot's and one that is not its can be in contact."""
    if model.opt.disableflags & (mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT):
        return False
    own = _moved_by_the_root(model)[model.geom_bodyid]
    meets = (model.geom_contype[own][:, None] & model.geom_conaffinity[~own]) | (
        model.geom_conaffinity[own][:, None] & model.geom_contype[~own]
    )
    return bool(meets.any() or (own[model.pair_geom1] != own[model.pair_geom2]).any())


def home_of(model: mujoco.MjModel) -> np.ndarray:
    """The positions [nq] that a robot's file means it to start in: the first keyframe, or ``qpos0`` without one."""
    return np.array(model.key_qpos[0] if model.nkey else model.qpos0)


def control_range(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper ends of the controls, each [nu], for which -1 and 1 stand; None where they are -1 and 1."""
    low, high = np.array(model.actuator_ctrlrange.T, np.float32)
    return None if (low == -1).all() and (high == 1).all() else (low, high)


def depends_on_x(model: mujoco.MjModel, axes: str = "x") -> str | None:
    """What in the model tells one place along x from another, for a message; None where nothing does.

    The model's first joints are the root's slides along ``axes``, or the first is a free joint (``check_root``). With
    ``axes`` "xy": what tells one place along x or y from another.
    """
    free = int(model.jnt_type[0]) == mujoco.mjtJoint.mjJNT_FREE
    slides = range(1 if free else len(axes))
    for joint in slides:
        if model.jnt_limited[joint]:
            return f"the limit of the joint {_name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)}"
        if model.jnt_stiffness[joint] or np.any(model.jnt_stiffnesspoly[joint]):
            return f"the spring of the joint {_name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)}"
    # A tendon of joints (a fixed one) sums their positions; those of the root are no part of it.
    of_others = (model.wrap_type == mujoco.mjtWrap.mjWRAP_JOINT) & ~np.isin(model.wrap_objid, slides)
    if model.neq or model.nmocap or not of_others.all():
        return "an equality constraint, a tendon or a mocap body"
    for i in range(model.nu):
        on_joint = int(model.actuator_trntype[i]) in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
        if not on_joint or model.actuator_trnid[i, 0] in slides:
            return f"the actuator {_name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, i)}"
    own, rest = _moved_by_the_root(model), _at_rest(model)
    # A slide's axis may be tilted: the root's body can stand in a frame or a body that is.
    directions = np.eye(3)[: len(axes)] if free else rest.xaxis[: len(axes)]
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        touches = model.geom_contype[geom] or model.geom_conaffinity[geom] or model.npair
        if own[body] or not touches:
            continue
        plane = int(model.geom_type[geom]) == mujoco.mjtGeom.mjGEOM_PLANE
        normal = rest.geom_xmat[geom].reshape(3, 3)[:, 2]
        if model.body_weldid[body] != 0 or not plane or np.abs(directions @ normal).max() >= 1e-12:
            return f"the geom {_name(model, mujoco.mjtObj.mjOBJ_GEOM, geom)}"
    return None


def _moved_by_the_root(model: mujoco.MjModel) -> np.ndarray:
    """Whether the first joint moves each body, [nbody]: its own, and those that hang on that one.

    A body in which the robot hangs, and others in that one, belong to the same tree, and stay where they are.
    """
    moved = np.zeros(model.nbody, bool)
    for body in range(model.jnt_bodyid[0], model.nbody):  # parents come before their children
        moved[body] = body == model.jnt_bodyid[0] or moved[model.body_parentid[body]]
    return moved


def _name(model: mujoco.MjModel, kind: mujoco.mjtObj, index: int) -> str:
    """An object's quoted name, or its number where it has none."""
    name = mujoco.mj_id2name(model, kind, index)
    return repr(name) if name else str(index)


def _at_rest(model: mujoco.MjModel) -> mujoco.MjData:
    """Where the bodies and geoms are at qpos0."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return data
