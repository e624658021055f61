"""Captions on the frames: task, time, step and return."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mjxppo.render.timeline import Timeline
from mjxppo.render.trajectory import Trajectory

_PANEL = (12, 18, 28, 165)
_LABEL = (176, 190, 208, 255)
_VALUE = (255, 255, 255, 255)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface, which needs no font on the machine."""
    return ImageFont.load_default(size=size)


def captions(trajectory: Trajectory, timeline: Timeline, frame: int) -> list[tuple[str, str]]:
    """The captions of a frame, as (label, value) pairs."""
    step = int(timeline.step[frame])
    limit = f" / {trajectory.step_limit}" if trajectory.step_limit else ""
    lines = [
        ("", trajectory.gym_id),
        ("time", f"{timeline.time[frame]:.2f} s"),
        ("step", f"{step}{limit}"),
        ("return", f"{timeline.returns[frame]:.1f}"),
    ]
    if step == trajectory.length and (trajectory.terminated or trajectory.truncated):
        lines.append(("", "terminated" if trajectory.terminated else "time limit"))
    return lines


def draw_captions(image: np.ndarray, lines: list[tuple[str, str]]) -> np.ndarray:
    """Draws a panel with ``lines`` into the upper left corner of an RGB image [H, W, 3]."""
    height = image.shape[0]
    size = max(11, round(height / 26))
    pad, leading = round(size * 0.6), round(size * 1.35)
    column = round(size * 3.7)
    unlabelled = max((font(size).getlength(value) for label, value in lines if not label), default=0)
    width = max(column + round(size * 6.2), round(unlabelled) + pad)
    panel = Image.new("RGBA", (width + pad, leading * len(lines) + round(1.3 * pad)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(panel)
    draw.rounded_rectangle((0, 0, panel.width - 1, panel.height - 1), radius=round(size * 0.45), fill=_PANEL)
    for row, (label, value) in enumerate(lines):
        y = round(0.55 * pad) + row * leading
        draw.text((pad, y), label, font=font(size), fill=_LABEL)
        draw.text((pad + (column if label else 0), y), value, font=font(size), fill=_VALUE)
    image = image.copy()
    corner = image[pad : pad + panel.height, pad : pad + panel.width]  # a view; smaller where the panel does not fit
    drawn = Image.fromarray(np.ascontiguousarray(corner))
    drawn.paste(panel, (0, 0), panel)
    corner[:] = np.asarray(drawn)
    return image
