"""Frames without OpenGL: the bodies' outlines from the side, on a floor with marks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from mjxppo.render.camera import CameraPath, camera_path, tile_size
from mjxppo.render.outline import make_outline
from mjxppo.render.overlay import font
from mjxppo.render.timeline import Timeline
from mjxppo.render.trajectory import Trajectory

_SUPERSAMPLING = 2
_SKY_TOP, _SKY_HORIZON = (150, 182, 214), (228, 236, 243)
_GROUND, _GROUND_LINE, _MARK = (92, 110, 128), (58, 72, 88), (196, 208, 220)


def draw_frames(trajectory: Trajectory, timeline: Timeline, width: int, height: int) -> Iterator[np.ndarray]:
    """The frames of an episode, [H, W, 3] uint8 each, from a camera that moves along with the robot."""
    return draw_states(trajectory.model, timeline.qpos, camera_path(trajectory.model, timeline), width, height)


def draw_states(
    model: mujoco.MjModel, qpos: np.ndarray, path: CameraPath, width: int, height: int
) -> Iterator[np.ndarray]:
    """Yields a picture [H, W, 3] of each row of ``qpos`` [F, nq], as seen from ``path``."""
    outline = make_outline(model, qpos)
    wide, high = width * _SUPERSAMPLING, height * _SUPERSAMPLING
    scale = high / path.view_height  # pixels per metre
    background = _sky(wide, high)
    for target, ends in zip(path.target, outline.ends, strict=True):
        origin_x, origin_z = wide / 2 - target[0] * scale, high / 2 + target[2] * scale
        image = background.copy()
        draw = ImageDraw.Draw(image)
        _draw_floor(draw, wide, high, scale, origin_x, origin_z - outline.floor * scale, tile_size(path.view_height))
        strokes = np.empty_like(ends)
        strokes[:, 0::2] = origin_x + ends[:, 0::2] * scale
        strokes[:, 1::2] = origin_z - ends[:, 1::2] * scale
        for stroke, radius, color in zip(strokes, outline.radius * scale, outline.color, strict=True):
            rim = (color[0] * 5 // 9, color[1] * 5 // 9, color[2] * 5 // 9)
            _draw_stroke(draw, stroke, radius, rim)
            _draw_stroke(draw, stroke, radius - 1.2 * _SUPERSAMPLING, color)
        yield np.asarray(image.reduce(_SUPERSAMPLING))


def _sky(width: int, height: int) -> Image.Image:
    """A background with a vertical gradient."""
    ramp = np.linspace(0.0, 1.0, height)[:, None, None]
    picture = (1 - ramp) * np.asarray(_SKY_TOP) + ramp * np.asarray(_SKY_HORIZON)
    return Image.fromarray(np.broadcast_to(picture, (height, width, 3)).astype(np.uint8))


def _draw_stroke(draw: ImageDraw.ImageDraw, stroke: np.ndarray, radius: float, color: tuple[int, int, int]) -> None:
    """Draws a thick line with round ends; ``stroke`` is (x1, y1, x2, y2) in pixels."""
    radius = max(radius, 1.0)
    x1, y1, x2, y2 = (float(value) for value in stroke)
    length = math.hypot(x2 - x1, y2 - y1)
    if length > 1e-6:
        dx, dy = (y2 - y1) / length * radius, -(x2 - x1) / length * radius
        draw.polygon([(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)], fill=color)
    for x, y in ((x1, y1), (x2, y2)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_floor(
    draw: ImageDraw.ImageDraw, width: int, height: int, scale: float, origin_x: float, floor_y: float, tile: float
) -> None:
    """Draws the ground with a mark every ``tile`` metres and a number at each fifth, which show the robot's speed."""
    if floor_y >= height:
        return
    draw.rectangle((0, floor_y, width, height), fill=_GROUND)
    draw.rectangle((0, floor_y, width, floor_y + 2 * _SUPERSAMPLING), fill=_GROUND_LINE)
    size = max(10, height // 34)
    spacing = scale * tile
    for mark in range(math.floor(-origin_x / spacing) - 1, math.ceil((width - origin_x) / spacing) + 1):
        x, labelled = origin_x + mark * spacing, mark % 5 == 0
        thickness, reach = (3, 0.9) if labelled else (1.5, 0.5)
        half = thickness * _SUPERSAMPLING / 2
        draw.rectangle((x - half, floor_y, x + half, floor_y + reach * size), fill=_MARK)
        if labelled:
            draw.text((x, floor_y + 1.2 * size), f"{mark * tile:.6g} m", font=font(size), fill=_MARK, anchor="ma")
