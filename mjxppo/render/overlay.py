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
    size = max(11, round(image.shape[0] / 26))
    # What stays from frame to frame is drawn once: letters take most of the time.
    panel = _panel(size, tuple((label, "" if label else value) for label, value in lines)).copy()
    draw = ImageDraw.Draw(panel)
    for row, (label, value) in enumerate(lines):
        if label:
            draw.text(_place(size, row, True), value, font=font(size), fill=_VALUE)
    image, pad = image.copy(), _pad(size)
    corner = image[pad : pad + panel.height, pad : pad + panel.width]  # a view; smaller where the panel does not fit
    drawn = Image.fromarray(np.ascontiguousarray(corner))
    drawn.paste(panel, (0, 0), panel)
    corner[:] = np.asarray(drawn)
    return image


@functools.lru_cache(maxsize=8)
def _panel(size: int, lines: tuple[tuple[str, str], ...]) -> Image.Image:
    """The panel with its labels, and the texts of the lines without one, in letters of ``size`` pixels."""
    unlabelled = max((font(size).getlength(text) for _, text in lines), default=0)
    width = max(_column(size) + round(size * 6.2), round(unlabelled) + _pad(size))
    height = round(size * 1.35) * len(lines) + round(1.3 * _pad(size))
    panel = Image.new("RGBA", (width + _pad(size), height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(panel)
    draw.rounded_rectangle((0, 0, panel.width - 1, panel.height - 1), radius=round(size * 0.45), fill=_PANEL)
    for row, (label, text) in enumerate(lines):
        draw.text(_place(size, row, False), label or text, font=font(size), fill=_LABEL if label else _VALUE)
    return panel


def _place(size: int, row: int, labelled: bool) -> tuple[int, int]:
    """Where a line's text begins in the panel, x and y; ``labelled``: behind the label."""
    return _pad(size) + (_column(size) if labelled else 0), round(0.55 * _pad(size)) + row * round(size * 1.35)


def _pad(size: int) -> int:
    return round(size * 0.6)


def _column(size: int) -> int:
    """Width of the labels."""
    return round(size * 3.7)
