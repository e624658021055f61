"""Frames by MuJoCo's own renderer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from mjxppo.render.camera import camera_path
from mjxppo.render.gl import Offscreen
from mjxppo.render.outline import floor_height, make_strokes
from mjxppo.render.timeline import Timeline
from mjxppo.render.trajectory import Trajectory

_ELEVATION = -12.0
_FLOOR_DARK, _FLOOR_LIGHT, _FLOOR_LINE = (86, 104, 122), (102, 121, 140), (150, 167, 184)
_SKY_TOP, _SKY_HORIZON = (92, 132, 176), (214, 226, 236)
_LIGHT = np.array([0.24, 0.32, -1.0])  # direction of the light; it casts shadows to the right and back
_SHADOW = np.array([0.2, 0.25, 0.31, 1.0], np.float32)
_SHADOW_LIFT = 0.004  # metres above the floor, enough not to flicker
_TILE_METRES = 1.0


def draw_frames(
    trajectory: Trajectory, timeline: Timeline, width: int, height: int, backend: str
) -> Iterator[np.ndarray]:
    """Yields the frames of an episode, [H, W, 3] uint8 each, from a camera that moves along with the robot."""
    path = camera_path(trajectory.model, timeline)
    with contextlib.closing(Stage(trajectory.model, path.view_height, width, height, backend)) as stage:
        for qpos, target in zip(timeline.qpos, path.target, strict=True):
            yield stage.draw(qpos, target)


class Stage:
    """Renderer of states of one model, until it is closed."""

    def __init__(self, model: mujoco.MjModel, view_height: float, width: int, height: int, backend: str):
        """Opens an OpenGL context of the ``backend`` that ``gl.find_backend`` found, for a copy of the model.

        ``view_height`` is the height of the picture in metres of the scene; ``width`` and ``height`` are in pixels.
        """
        self._model = model = dress(model)
        self._data = mujoco.MjData(model)
        self._strokes, self._floor = make_strokes(model), floor_height(model)
        self._camera = mujoco.MjvCamera()
        self._camera.azimuth, self._camera.elevation = 90.0, _ELEVATION
        self._camera.distance = 0.5 * view_height / np.tan(np.radians(0.5 * model.vis.global_.fovy))
        self._screen = Offscreen(model, width, height, backend)

    def draw(self, qpos: np.ndarray, target: np.ndarray) -> np.ndarray:
        """A picture [H, W, 3] uint8 of the state ``qpos`` [nq], with the point ``target`` [3] at its centre."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_forward(self._model, data)
        # The light moves too: a fixed light would leave the robot in the dark.
        data.light_xpos[:] = target - 5 * _LIGHT
        data.light_xdir[:] = _LIGHT / np.linalg.norm(_LIGHT)
        self._camera.lookat[:] = target
        self._screen.update(data, self._camera)
        _add_shadow(self._screen.scene, self._strokes.ends(data), self._strokes.radius, self._floor)
        return self._screen.draw()

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._screen.close()


def dress(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy of ``model`` for drawing: an endless floor with tiles of one metre, soft light, a sky.

    Gymnasium's floors end after 20 to 40 metres; a good policy runs further.
    """
    model = copy.copy(model)
    planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    model.geom_size[planes, :2] = 0.0  # a plane of size 0 is drawn without end
    for material in {int(m) for m in model.geom_matid[planes] if m >= 0}:
        model.mat_texuniform[material] = True
        model.mat_texrepeat[material] = 0.5 / _TILE_METRES  # a texture holds two tiles each way
        model.mat_reflectance[material] = 0.0  # a reflection would draw everything twice
        model.mat_specular[material] = 0.1
        model.mat_rgba[material] = 1.0
        for texture in {int(t) for t in model.mat_texid[material] if t >= 0}:
            _paint(model, texture, _tiles)
    model.geom_rgba[planes] = 1.0
    for skybox in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        _paint(model, int(skybox), _sky)
    model.vis.headlight.ambient[:] = 0.42
    model.vis.headlight.diffuse[:] = 0.38
    model.vis.headlight.specular[:] = 0.05
    model.light_diffuse[:] = 0.55
    model.light_ambient[:] = 0.0
    model.light_specular[:] = 0.15
    model.light_castshadow[:] = False  # see _add_shadow
    model.vis.map.znear = 0.05 / max(model.stat.extent, 1e-6)
    model.vis.map.zfar = 80.0 / max(model.stat.extent, 1e-6)
    return model


def _add_shadow(scene: mujoco.MjvScene, ends: np.ndarray, radius: np.ndarray, floor: float) -> None:
    """Adds flat dark shapes on the floor where the shadows of the strokes with ``ends`` [S, 2, 3] fall.

    OpenGL's own shadows double the time of a frame that the CPU draws, and are misplaced on an endless floor.
    """
    drop = np.maximum(ends[..., 2:] - floor, 0.0)
    ground = ends + drop * _LIGHT / -_LIGHT[2]
    ground[..., 2] = floor + _SHADOW_LIFT
    for (start, end), width in zip(ground, radius, strict=True):
        for point in (start, end):
            _add_geom(scene, mujoco.mjtGeom.mjGEOM_CYLINDER, [width, 1e-3, 0.0], point, np.eye(3))
        along = end - start
        length = float(np.linalg.norm(along))
        if length > 1e-6:
            x, y = along[:2] / length
            turn = np.array([[x, -y, 0.0], [y, x, 0.0], [0.0, 0.0, 1.0]])
            _add_geom(scene, mujoco.mjtGeom.mjGEOM_BOX, [length / 2, width, 1e-3], (start + end) / 2, turn)


def _add_geom(
    scene: mujoco.MjvScene, kind: mujoco.mjtGeom, size: list[float], position: np.ndarray, rotation: np.ndarray
) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    mujoco.mjv_initGeom(scene.geoms[scene.ngeom], kind, np.asarray(size), position, rotation.ravel(), _SHADOW)
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


def _sky(height: int, width: int) -> np.ndarray:
    """Six square faces one above the other, each with a gradient from the horizon up."""
    ramp = np.linspace(1.0, 0.0, width)[:, None, None] ** 1.5
    face = np.asarray(_SKY_TOP) * ramp + np.asarray(_SKY_HORIZON) * (1 - ramp)
    return np.broadcast_to(np.tile(face, (max(1, height // width), 1, 1)), (height, width, 3))
