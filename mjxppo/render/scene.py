"""Frames by MuJoCo's own renderer."""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np

from mjxppo import xla
from mjxppo.render.camera import camera_path, tile_size
from mjxppo.render.gl import Offscreen
from mjxppo.render.outline import floor_height, make_strokes
from mjxppo.render.timeline import Timeline
from mjxppo.render.trajectory import Trajectory

_ELEVATION = -12.0
_FLOOR_DARK, _FLOOR_LIGHT, _FLOOR_LINE = (86, 104, 122), (102, 121, 140), (150, 167, 184)
_SKY_TOP, _SKY_HORIZON = (92, 132, 176), (214, 226, 236)
_LIGHT = np.array([0.24, 0.32, -1.0])  # direction of the light; it casts shadows to the right and back
_SHADOW = np.array([0.2, 0.25, 0.31, 1.0], np.float32)
_JOINTS = 16  # joints between tiles on each side of the robot, where they are drawn one by one
_SHADOW_LIFT, _SHADOW_HEIGHT = 0.0015, 0.0004  # of the picture's height; above the floor enough not to flicker
_MOST_THREADS = 8
_ZFAR = 30.0  # how far the camera sees, in heights of the picture


def draw_frames(
    trajectory: Trajectory, timeline: Timeline, width: int, height: int, backend: str
) -> Iterator[np.ndarray]:
    """Yields the frames of an episode, [H, W, 3] uint8 each, from a camera that moves along with the robot.

    Where a CPU draws, each of its cores draws its share of the frames, ahead of the one that is wanted.
    """
    path = camera_path(trajectory.model, timeline)
    settings = trajectory.model, path.view_height, width, height, backend
    with contextlib.ExitStack() as opened:
        threads = [opened.enter_context(contextlib.closing(_DrawingThread(*settings)))]
        if threads[0].stage.software:
            others = range(min(xla.usable_cores(), _MOST_THREADS) - 1)
            threads += [opened.enter_context(contextlib.closing(_DrawingThread(*settings))) for _ in others]
        ahead: deque[Future[np.ndarray]] = deque()
        for frame, state in enumerate(zip(timeline.qpos, path.target, strict=True)):
            ahead.append(threads[frame % len(threads)].draw(*state))
            if len(ahead) > 2 * len(threads):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _DrawingThread:
    """A thread with a stage of its own, because an OpenGL context belongs to one thread."""

    def __init__(self, *settings: Any):
        """Opens ``Stage(*settings)``."""
        self._thread = ThreadPoolExecutor(1)
        self.stage = self._thread.submit(Stage, *settings).result()

    def draw(self, qpos: np.ndarray, target: np.ndarray) -> Future[np.ndarray]:
        """``Stage.draw``, later."""
        return self._thread.submit(self.stage.draw, qpos, target)

    def close(self) -> None:
        """Ends the thread, when it has drawn what it was given."""
        self._thread.submit(self.stage.close).result()
        self._thread.shutdown()


class Stage:
    """Renderer of states of one model, until it is closed."""

    def __init__(self, model: mujoco.MjModel, view_height: float, width: int, height: int, backend: str):
        """Opens an OpenGL context of the ``backend`` that ``gl.find_backend`` found, for a copy of the model.

        ``view_height`` is the height of the picture in metres of the scene; ``width`` and ``height`` are in pixels.
        """
        self._model = model = dress(model, view_height)
        self._view_height = view_height
        self._data = mujoco.MjData(model)
        self._plain = len(_untextured_planes(model)) > 0
        self._floors, self._period = _level_planes(model), 2 * tile_size(view_height)
        self._strokes, self._floor = make_strokes(model), floor_height(model)
        self._camera = mujoco.MjvCamera()
        self._camera.azimuth, self._camera.elevation = 90.0, _ELEVATION
        self._camera.distance = 0.5 * view_height / np.tan(np.radians(0.5 * model.vis.global_.fovy))
        # The camera sees the horizon a quarter below the picture's upper edge.
        colors = _gradient(np.linspace(1.0, -3.0, height))
        self._sky = np.ascontiguousarray(np.broadcast_to(colors, (height, width, 3)).astype(np.uint8))
        self._screen = Offscreen(model, width, height, backend)
        self._screen.scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX.value] = 0  # a CPU draws it for longer than the robot
        self.software = self._screen.software

    def draw(self, qpos: np.ndarray, target: np.ndarray) -> np.ndarray:
        """A picture [H, W, 3] uint8 of the state ``qpos`` [nq], with the point ``target`` [3] at its centre."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_forward(self._model, data)
        # By whole periods of the tiles, so that these stay where they are.
        data.geom_xpos[self._floors, :2] = np.round(target[:2] / self._period) * self._period
        # The light moves too: a fixed light would leave the robot in the dark.
        data.light_xpos[:] = target - 2 * self._view_height * _LIGHT
        data.light_xdir[:] = _LIGHT / np.linalg.norm(_LIGHT)
        self._camera.lookat[:] = target
        self._screen.update(data, self._camera)
        lift = _SHADOW_LIFT * self._view_height
        if self._plain:
            joint = self._floor + lift / 2, tile_size(self._view_height), lift / 4
            _add_joints(self._screen.scene, target, *joint)
        ends, radius = self._strokes.ends(data), self._strokes.radius
        _add_shadow(self._screen.scene, ends, radius, self._floor + lift, _SHADOW_HEIGHT * self._view_height)
        return self._screen.draw(self._sky)

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._screen.close()


def dress(model: mujoco.MjModel, view_height: float) -> mujoco.MjModel:
    """A copy of ``model`` for pictures ``view_height`` metres high: an endless floor with tiles, soft light, a sky.

    Gymnasium's floors end after 20 to 40 metres; a good policy runs further.
    """
    model = copy.copy(model)
    planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    model.geom_size[planes, :2] = 0.0  # a plane of size 0 is drawn without end
    # MuJoCo cuts such a plane into thousands of pieces, which take a CPU longer than all the rest. A level one may end,
    # beyond what the camera sees, because it moves along (``Stage.draw``).
    model.geom_size[_level_planes(model)] = 1.5 * _ZFAR * view_height
    for material in {int(m) for m in model.geom_matid[planes] if m >= 0}:
        model.mat_texuniform[material] = True
        model.mat_texrepeat[material] = 0.5 / tile_size(view_height)  # a texture holds two tiles each way
        model.mat_reflectance[material] = 0.0  # a reflection would draw everything twice
        model.mat_specular[material] = 0.1
        model.mat_rgba[material] = 1.0
        for texture in {int(t) for t in model.mat_texid[material] if t >= 0}:
            _paint(model, texture, _tiles)
    model.geom_rgba[planes] = 1.0
    plain = _untextured_planes(model)
    model.geom_rgba[plain, :3] = np.asarray(_FLOOR_DARK) / 255
    model.geom_matid[plain] = -1
    model.vis.headlight.ambient[:] = 0.42
    model.vis.headlight.diffuse[:] = 0.38
    model.vis.headlight.specular[:] = 0.05
    model.light_diffuse[:] = 0.55
    model.light_ambient[:] = 0.0
    model.light_specular[:] = 0.15
    model.light_castshadow[:] = False  # see _add_shadow
    model.light_type[:] = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL.value
    model.light_active[1:] = False
    # MuJoCo takes both in units of the model's extent, which a distant part may set.
    model.stat.extent = view_height
    model.vis.map.znear, model.vis.map.zfar = 0.02, _ZFAR
    return model


def _level_planes(model: mujoco.MjModel) -> np.ndarray:
    """Indices of the planes that belong to the world and lie in it as it is, without a turn."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    fixed = model.body_weldid[model.geom_bodyid] == 0
    straight = np.abs(data.geom_xmat - np.eye(3).ravel()).max(axis=1) < 1e-9
    return np.flatnonzero((model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & fixed & straight)


def _untextured_planes(model: mujoco.MjModel) -> np.ndarray:
    """Indices of the planes whose look has no picture on it."""
    textured = lambda material: material >= 0 and (model.mat_texid[material] >= 0).any()  # noqa: E731
    planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    return np.array([geom for geom in planes if not textured(model.geom_matid[geom])], int)


def _add_joints(scene: mujoco.MjvScene, target: np.ndarray, floor: float, tile: float, thickness: float) -> None:
    """Adds the joints between the tiles of a floor without a picture of them, around the point ``target`` [3]."""
    color = np.append(np.asarray(_FLOOR_LINE) / 255, 1.0).astype(np.float32)
    center, reach = np.round(target[:2] / tile) * tile, _JOINTS * tile
    for offset in np.arange(-_JOINTS, _JOINTS + 1) * tile:
        for axis in (0, 1):
            size, position = np.full(3, 0.01 * tile), np.append(center, floor)
            size[1 - axis], size[2], position[axis] = reach, thickness, center[axis] + offset
            _add_geom(scene, mujoco.mjtGeom.mjGEOM_BOX, size, position, np.eye(3), color)


def _add_shadow(scene: mujoco.MjvScene, ends: np.ndarray, radius: np.ndarray, floor: float, thickness: float) -> None:
    """Adds flat dark shapes at the height ``floor`` where the shadows of the strokes with ``ends`` [S, 2, 3] fall.

    OpenGL's own shadows double the time of a frame that the CPU draws, and are misplaced on an endless floor.
    """
    drop = np.maximum(ends[..., 2:] - floor, 0.0)
    ground = ends + drop * _LIGHT / -_LIGHT[2]
    ground[..., 2] = floor
    for (start, end), width in zip(ground, radius, strict=True):
        for point in (start, end):
            _add_geom(scene, mujoco.mjtGeom.mjGEOM_CYLINDER, [width, thickness, 0.0], point, np.eye(3))
        along = end - start
        length = float(np.linalg.norm(along))
        if length > 1e-6:
            x, y = along[:2] / length
            turn = np.array([[x, -y, 0.0], [y, x, 0.0], [0.0, 0.0, 1.0]])
            _add_geom(scene, mujoco.mjtGeom.mjGEOM_BOX, [length / 2, width, thickness], (start + end) / 2, turn)


def _add_geom(
    scene: mujoco.MjvScene,
    kind: mujoco.mjtGeom,
    size: Sequence[float] | np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    color: np.ndarray = _SHADOW,
) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    mujoco.mjv_initGeom(scene.geoms[scene.ngeom], kind, np.asarray(size), position, rotation.ravel(), color)
    scene.ngeom += 1


def _paint(model: mujoco.MjModel, texture: int, picture: Callable[[int, int], np.ndarray]) -> None:
    """Overwrites a texture's pixels with ``picture(height, width)``, [height, width, 3]."""
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    if channels < 3:
        return
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    pixels[..., :3] = picture(height, width)


def _tiles(height: int, width: int) -> np.ndarray:
    """Two by two tiles in two similar shades with thin joints: they show the robot's speed and do not flicker."""
    row, column = np.mgrid[0:height, 0:width]
    checker = ((row * 2 // height) + (column * 2 // width)) % 2
    picture = np.where(checker[..., None] == 0, _FLOOR_DARK, _FLOOR_LIGHT)
    joint = (row % (height // 2) < max(1, height // 100)) | (column % (width // 2) < max(1, width // 100))
    picture[joint] = _FLOOR_LINE
    return picture


def _gradient(altitude: np.ndarray) -> np.ndarray:
    """The sky's colours, [H, 1, 3], at altitudes [H] from 0, the horizon, to 1."""
    ramp = np.maximum(altitude, 0.0)[:, None, None] ** 1.5
    return np.asarray(_SKY_TOP) * ramp + np.asarray(_SKY_HORIZON) * (1 - ramp)
