"""A robot's bodies as plain strokes, for the 2-D drawing, the web page and the shadows."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

_ROUND = (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_CYLINDER))
_BLOCK = (int(mujoco.mjtGeom.mjGEOM_BOX), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID))
_PALETTE = ((214, 122, 66), (232, 162, 92), (196, 92, 84), (122, 148, 98), (92, 134, 168), (150, 112, 160))


@dataclass(frozen=True)
class Strokes:
    """Lines with round ends that stand for S geoms."""

    geom: np.ndarray
    """Index of each stroke's geom, [S]."""
    radius: np.ndarray
    """Half the stroke's width in metres, [S]."""
    half_axis: np.ndarray
    """From the geom's centre to the stroke's end, in the geom's frame, [S, 3]."""

    def ends(self, data: mujoco.MjData) -> np.ndarray:
        """Both end points of each stroke in the world, [S, 2, 3]; needs ``data``'s kinematics."""
        center = data.geom_xpos[self.geom]
        axis = np.einsum("sij,sj->si", data.geom_xmat[self.geom].reshape(-1, 3, 3), self.half_axis)
        return np.stack([center - axis, center + axis], axis=1)


@dataclass(frozen=True)
class Outline:
    """Strokes as seen along the y axis, farthest first: S strokes in F frames."""

    radius: np.ndarray
    """Half the stroke's width in metres, [S]."""
    color: list[tuple[int, int, int]]
    """RGB of each stroke."""
    ends: np.ndarray
    """Both end points of each stroke as (x1, z1, x2, z2) in metres, [F, S, 4]."""
    floor: float
    """Height of the ground in metres, see ``floor_height``."""


def make_outline(model: mujoco.MjModel, qpos: np.ndarray) -> Outline:
    """Places the bodies' strokes for every row of ``qpos`` [F, nq]."""
    data = mujoco.MjData(model)
    strokes = make_strokes(model)
    ends = np.empty((len(qpos), len(strokes.geom), 2, 3))
    for frame, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        ends[frame] = strokes.ends(data)
    order = np.argsort(-ends[..., 1].mean(axis=(0, 2)), kind="stable")
    return Outline(
        radius=strokes.radius[order],
        color=[geom_color(model, int(strokes.geom[i])) for i in order],
        ends=ends[:, order][..., [0, 2]].reshape(len(qpos), -1, 4),
        floor=floor_height(model),
    )


def make_strokes(model: mujoco.MjModel) -> Strokes:
    """Makes the strokes: capsules and cylinders exactly, other shapes as a stroke along their longest side."""
    geoms = body_geoms(model)
    half, radius = np.zeros((len(geoms), 3)), np.zeros(len(geoms))
    for i, geom in enumerate(geoms):
        size, kind = model.geom_size[geom], int(model.geom_type[geom])
        if kind in _ROUND:
            half[i, 2], radius[i] = size[1], size[0]
        elif kind in _BLOCK:
            longest = int(np.argmax(size))
            radius[i] = np.median(size)
            half[i, longest] = max(0.0, size[longest] - radius[i])
        else:  # spheres; meshes by half their bounding sphere
            radius[i] = size[0] if kind == int(mujoco.mjtGeom.mjGEOM_SPHERE) else 0.5 * model.geom_rbound[geom]
    return Strokes(geom=geoms, radius=radius, half_axis=half)


def body_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Indices of the robot's geoms: those that are visible and not fixed to the world."""
    fixed = model.body_weldid[model.geom_bodyid] == 0
    return np.flatnonzero(~fixed & (model.geom_rgba[:, 3] > 0))


def boxes(data: mujoco.MjData, geoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x, y, z of geoms [G] in the world, each [G, 3]; needs ``data``'s kinematics."""
    model, turn = data.model, data.geom_xmat[geoms].reshape(-1, 3, 3)
    center, half = np.split(model.geom_aabb[geoms], 2, axis=1)
    center = data.geom_xpos[geoms] + np.einsum("gij,gj->gi", turn, center)
    half = np.einsum("gij,gj->gi", np.abs(turn), half)
    return center - half, center + half


def floor_height(model: mujoco.MjModel) -> float:
    """Height of what the robot at rest stands on or falls to; without any, far below the robot.

    That is the highest plane, or other geom of the world, that is under the robot and not above its middle.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    robot = body_geoms(model)
    if not len(robot):
        return 0.0
    low, high = (f(x, axis=0) for f, x in zip((np.min, np.max), boxes(data, robot), strict=True))
    middle = (low + high) / 2
    tops = [middle[2] - 100 * float(np.max(high - low))]
    fixed = np.flatnonzero((model.body_weldid[model.geom_bodyid] == 0) & (model.geom_rgba[:, 3] > 0))
    for geom, start, end in zip(fixed, *boxes(data, fixed), strict=True):
        if model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_PLANE):
            normal, point = data.geom_xmat[geom].reshape(3, 3)[:, 2], data.geom_xpos[geom]
            if normal[2] > 0.1:
                tops.append(point[2] - float(normal[:2] @ (middle - point)[:2]) / normal[2])
        elif (start < high)[:2].all() and (low < end)[:2].all():
            tops.append(end[2])
    return float(max(top for top in tops if top <= middle[2]))


def geom_color(model: mujoco.MjModel, geom: int) -> tuple[int, int, int]:
    """The geom's colour; where the model gives none (MuJoCo's default grey), a colour by body."""
    rgb = model.geom_rgba[geom, :3]
    if np.ptp(rgb) < 0.02:
        return _PALETTE[int(model.geom_bodyid[geom]) % len(_PALETTE)]
    red, green, blue = (round(255 * float(channel)) for channel in rgb)
    return red, green, blue
