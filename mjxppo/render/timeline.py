"""Times of a video's frames, and the simulation's states at those times.

A video plays in real time: one second of video is one second of simulation. The control rate of a task is seldom
a good frame rate (20 Hz for HalfCheetah, 125 Hz for Hopper), so positions are interpolated between steps where
that is valid: with nq == nv all joints are slides and hinges, whose coordinates can be averaged.
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
    """Times and states of F frames."""

    fps: float
    """Frames per second, at most 60."""
    time: np.ndarray
    """Simulated time of each frame in seconds, [F]."""
    step: np.ndarray
    """Number of steps completed at each frame, [F]."""
    qpos: np.ndarray
    """Positions, [F, nq]."""
    returns: np.ndarray
    """Return of the episode up to each frame, [F]."""


def frame_rate(dt: float, interpolate: bool, max_fps: float = MAX_FPS) -> float:
    """The frame rate for steps of ``dt`` seconds.

    Without interpolation each frame shows a step, so the rate is the greatest 1 / (k dt) up to ``max_fps``. With
    interpolation, slow tasks get the smallest multiple of their rate that looks smooth, fast ones ``max_fps``.
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
    """Makes the timeline of an episode from its first to its last state."""
    interpolate = trajectory.model.nq == trajectory.model.nv
    fps = frame_rate(trajectory.dt, interpolate, max_fps)
    position = np.arange(math.floor(trajectory.duration * fps + 1e-6) + 1) / (fps * trajectory.dt)  # in steps
    position = np.minimum(position, trajectory.length)
    step = np.floor(position + 1e-6).astype(int)
    following = np.minimum(step + 1, trajectory.length)
    weight = np.clip(position - step, 0.0, 1.0)[:, None] if interpolate else 0.0
    qpos = (1.0 - weight) * trajectory.qpos[step] + weight * trajectory.qpos[following]
    # The last frame shows the episode's end, also where that is not a multiple of the frame's duration.
    if step[-1] < trajectory.length:
        step[-1], qpos[-1] = trajectory.length, trajectory.qpos[-1]
    return Timeline(fps=fps, time=position * trajectory.dt, step=step, qpos=qpos, returns=trajectory.returns[step])
