"""When the frames of a video are, and what the simulation looks like at those times.

A video plays in real time: one second of video is one second of simulation. The control rate of a task is seldom
a good frame rate (20 Hz for HalfCheetah, 125 Hz for Hopper), so positions are interpolated between steps where
that is valid: with nq == nv all joints are slides and hinges, and their coordinates are plain numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mjxppo.render.trajectory import Trajectory

MAX_FPS = 60.0
_SMOOTH_FPS = 30.0


@dataclass(frozen=True)
class Timeline:
    """F frames in real time."""

    fps: float
    """Frames per second, at most 60."""
    time: np.ndarray
    """Simulated time of each frame in seconds, [F]."""
    step: np.ndarray
    """Steps completed by then, [F]."""
    qpos: np.ndarray
    """Positions, [F, nq]."""
    returns: np.ndarray
    """Episode return so far, [F]."""


def frame_rate(dt: float, interpolate: bool, max_fps: float = MAX_FPS) -> float:
    """The frame rate for steps of ``dt`` seconds.

    Without interpolation a frame is a step, so the rate is the greatest fraction 1 / (k dt) within ``max_fps``.
    With it, slow tasks get the smallest multiple of their rate that looks smooth, fast ones ``max_fps``.
    """
    rate = 1.0 / dt
    if not interpolate:
        return rate / max(1, math.ceil(rate / max_fps - 1e-9))
    if rate >= max_fps:
        return max_fps
    multiple = max(1, math.ceil(_SMOOTH_FPS / rate - 1e-9))
    while multiple > 1 and multiple * rate > max_fps + 1e-9:
        multiple -= 1
    return multiple * rate


def make_timeline(trajectory: Trajectory, max_fps: float = MAX_FPS) -> Timeline:
    """Lays frames over an episode, first state to last."""
    interpolate = trajectory.model.nq == trajectory.model.nv
    fps = frame_rate(trajectory.dt, interpolate, max_fps)
    position = np.arange(math.floor(trajectory.duration * fps + 1e-6) + 1) / (fps * trajectory.dt)  # in steps
    position = np.minimum(position, trajectory.length)
    step = np.floor(position + 1e-6).astype(int)
    following = np.minimum(step + 1, trajectory.length)
    weight = np.clip(position - step, 0.0, 1.0)[:, None] if interpolate else 0.0
    qpos = (1.0 - weight) * trajectory.qpos[step] + weight * trajectory.qpos[following]
    # The frame after the last step that fits shows the end, whatever the frame rate.
    if step[-1] < trajectory.length:
        step[-1], qpos[-1] = trajectory.length, trajectory.qpos[-1]
    return Timeline(fps=fps, time=position * trajectory.dt, step=step, qpos=qpos, returns=trajectory.returns[step])
