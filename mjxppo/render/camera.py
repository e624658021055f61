"""The camera's path: it follows the robot smoothly, at a distance at which the robot fits into the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from mjxppo.render.outline import body_geoms, boxes, floor_height
from mjxppo.render.timeline import Timeline

_SMOOTHING_S = 0.35  # standard deviation of the camera's Gaussian smoothing
_ABOVE_FLOOR = 0.38  # the picture's centre, in picture heights
_CLIMB = 0.7  # the camera follows a robot up and down whose centre moves further, in picture heights


@dataclass(frozen=True)
class CameraPath:
    """Path of a camera that looks at the robot from the side and moves along with it."""

    target: np.ndarray
    """The point at the picture's centre, [F, 3], in metres."""
    view_height: float
    """Height of the picture in metres of the scene, at the target's depth."""


def camera_path(model: mujoco.MjModel, timeline: Timeline) -> CameraPath:
    """A path that follows the robot's centre of mass: smoothly along the ground, at a fixed height.

    The smoothing uses the past and the future, so the camera does not lag behind. A robot that would climb or fall out
    of the picture is followed.
    """
    com = _centers_of_mass(model, timeline.qpos)
    path = _smooth(com, timeline.fps)
    view_height = _view_height(model, timeline.qpos[0])
    path[:, 2] = _heights(path[:, 2], float(np.median(com[:, 2])), floor_height(model), view_height)
    return CameraPath(target=path, view_height=view_height)


def _heights(center: np.ndarray, usual: float, floor: float, view_height: float) -> np.ndarray:
    """Heights of the picture's centre, [F], for a robot whose centre is at the heights ``center`` [F]."""
    fixed = max(usual, floor + _ABOVE_FLOOR * view_height)
    follows = np.abs(center - usual).max() > _CLIMB * view_height
    return center + (fixed - usual) if follows else np.full_like(center, fixed)


def camera_of_each(model: mujoco.MjModel, qpos: np.ndarray) -> CameraPath:
    """A view of each of N unrelated states ``qpos`` [N, nq]: centred on its robot, at the same height where it fits."""
    rest = model.qpos0[None]
    view_height = _view_height(model, rest[0])
    target = _centers_of_mass(model, qpos)
    target[:, 2] = _heights(target[:, 2], _centers_of_mass(model, rest)[0, 2], floor_height(model), view_height)
    return CameraPath(target=target, view_height=view_height)


def _centers_of_mass(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Centres of mass of what moves, in metres, [F, 3], for positions [F, nq]."""
    data = mujoco.MjData(model)
    moves = model.body_weldid != 0
    weight = np.where(moves, model.body_mass, 0)
    weight /= weight.sum()
    com = np.empty((len(qpos), 3))
    for frame, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        com[frame] = weight @ data.xipos
    return com


def _view_height(model: mujoco.MjModel, qpos: np.ndarray) -> float:
    """Height of the picture in metres: with space above a tall robot, in which it jumps, and beside a long one."""
    length, depth, height = _size(model, qpos)
    return max(1.9 * height, 1.58 * length, depth)


def _size(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[float, float, float]:
    """Extent of the robot along x, y and z in metres."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    geoms = body_geoms(model)
    if not len(geoms):
        return (float(model.stat.extent),) * 3
    low, high = boxes(data, geoms)
    length, depth, height = (high.max(axis=0) - low.min(axis=0)).tolist()
    return length, depth, height


def tile_size(view_height: float) -> float:
    """Length of a floor tile in metres: 1, 2 or 5 times a power of ten; 1 in a picture of 2 to 4 metres."""
    power = 10.0 ** math.floor(math.log10(view_height / 2))
    return max(step * power for step in (1, 2, 5) if step * power <= view_height / 2)


def _smooth(path: np.ndarray, fps: float) -> np.ndarray:
    """Gaussian smoothing of a path [F, 3] along time; point reflection at its ends keeps the speed."""
    sigma = _SMOOTHING_S * fps
    reach = int(min(3 * sigma, len(path) - 1))
    if reach < 1:
        return path.copy()
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    before = 2 * path[0] - path[reach:0:-1]
    after = 2 * path[-1] - path[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, path, after])
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(path.shape[1])], axis=1)
