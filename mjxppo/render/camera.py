"""The camera's path: it follows the robot smoothly, at a distance at which the robot fits into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from mjxppo.render.outline import body_geoms
from mjxppo.render.timeline import Timeline

_SMOOTHING_S = 0.35  # standard deviation of the camera's Gaussian smoothing
_ASPECT = 4 / 3  # of the picture, roughly


@dataclass(frozen=True)
class CameraPath:
    """Path of a camera that looks at the robot from the side and moves along with it."""

    target: np.ndarray
    """The point at the picture's centre, [F, 3], in metres."""
    view_height: float
    """Height of the picture in metres of the scene, at the target's depth."""


def camera_path(model: mujoco.MjModel, timeline: Timeline) -> CameraPath:
    """A path that follows the robot's centre of mass: smoothly along the ground, at a fixed height.

    The smoothing uses the past and the future, so the camera does not lag behind.
    """
    com = _centers_of_mass(model, timeline.qpos)
    path = _smooth(com, timeline.fps)
    view_height = _view_height(model, timeline.qpos[0])
    path[:, 2] = max(float(np.median(com[:, 2])), 0.38 * view_height)
    return CameraPath(target=path, view_height=view_height)


def camera_of_each(model: mujoco.MjModel, qpos: np.ndarray) -> CameraPath:
    """A view of each of N unrelated states ``qpos`` [N, nq]: centred on its robot, all at the same height."""
    rest = model.qpos0[None]
    view_height = _view_height(model, rest[0])
    target = _centers_of_mass(model, qpos)
    target[:, 2] = max(_centers_of_mass(model, rest)[0, 2], 0.38 * view_height)
    return CameraPath(target=target, view_height=view_height)


def _centers_of_mass(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Centres of mass in metres, [F, 3], for positions [F, nq]."""
    data = mujoco.MjData(model)
    com = np.empty((len(qpos), 3))
    for frame, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        com[frame] = data.subtree_com[0]
    return com


def _view_height(model: mujoco.MjModel, qpos: np.ndarray) -> float:
    """Height of the picture in metres: with space above a tall robot and beside a long one, and at least 2.3 m, so
    that a jumping robot stays in the picture.
    """
    length, height = _size(model, qpos)
    return max(1.75 * height, 1.35 * length / _ASPECT, 2.3)


def _size(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[float, float]:
    """Extent of the robot along x and z in metres."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    geoms = body_geoms(model)
    if not len(geoms):
        return float(model.stat.extent), float(model.stat.extent)
    radius = model.geom_rbound[geoms, None]
    low, high = (data.geom_xpos[geoms] - radius).min(axis=0), (data.geom_xpos[geoms] + radius).max(axis=0)
    return float(high[0] - low[0]), float(high[2] - low[2])


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
