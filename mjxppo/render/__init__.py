"""Films of one episode of a policy: mp4 or gif with MuJoCo's renderer, or a web page that plays by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.config.values import plain, whole
from mjxppo.console import counted, say, waiting
from mjxppo.errors import UserError
from mjxppo.policy.policy import ActFunction
from mjxppo.render import drawing, gl, overlay, player, scene, video
from mjxppo.render.timeline import MAX_FPS, Timeline, make_timeline
from mjxppo.render.trajectory import Trajectory, record_episode

SUFFIXES = (".mp4", ".gif", ".html")
_GIF_MAX_FPS = 25.0  # more makes gifs large, and browsers play few other rates exactly


def render(
    policy: ActFunction,
    gym_id: str,
    out: Path | str,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    width: int = 640,
    height: int = 480,
    gym_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs ``policy`` for one episode in Gymnasium's C MuJoCo and draws it to ``out``.

    Args:
        policy: actions [N, act_size] for observations [N, obs_size], NumPy arrays.
        gym_id: a MuJoCo environment of Gymnasium, such as ``HalfCheetah-v5``.
        out: a file ending in .mp4, .gif or .html; replaced when the drawing is complete.
        seed: seed of the episode.
        max_steps: largest number of steps to draw; default: the whole episode.
        width: width in pixels, even.
        height: height in pixels, even.
        gym_kwargs: options of the environment.

    Returns:
        What was drawn, ready for JSON: path, env, seed, return, length, terminated, truncated, seconds, frames,
        fps, and renderer ("egl" or another OpenGL, "2d", or "html").

    Raises:
        UserError: an argument is wrong; nothing has been written then.
    """
    out, gym_kwargs = Path(out), plain(gym_kwargs or {})
    seed, width, height = whole("seed", seed), whole("width", width), whole("height", height)
    max_steps = None if max_steps is None else whole("max_steps", max_steps)
    check_output(out, width, height)
    with waiting("running the episode"), ThreadPoolExecutor(1) as background:
        background.submit(gl.find_backend)  # a process, for seconds; its result is cached
        trajectory = record_episode(policy, gym_id, seed, max_steps, gym_kwargs)
    summary = {
        "path": str(out),
        "env": gym_id,
        "seed": seed,
        "return": float(trajectory.returns[-1]),
        "length": trajectory.length,
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
        "seconds": trajectory.duration,
    }
    return summary | draw_episode(trajectory, out, width, height)


def film(
    policy: ActFunction, config: Config, out: Path, max_seconds: float | None = None, **options: Any
) -> dict[str, Any]:
    """Draws one episode of ``policy`` on the task of a run, with the run's task options, as ``render`` does.

    ``max_seconds`` limits the simulated time (default: the whole episode); ``options`` are arguments of ``render``.

    Raises:
        UserError: Gymnasium does not have the task, or the file cannot be written.
    """
    from mjxppo.envs import make  # imports JAX, which the OpenGL probe's process does not need
    from mjxppo.envs.registry import gym_id_of

    gym_id = gym_id_of(config.env)
    if gym_id is None:
        raise UserError(f"render: only Gymnasium's tasks can be filmed, not {config.env}")
    if max_seconds is not None:
        duration = make(config.env, **config.env_options).step_duration
        options["max_steps"] = max(1, round(max_seconds / duration)) if duration > 0 else None
    return render(policy, gym_id, out, gym_kwargs=config.env_options, **options)


def check_output(out: Path, width: int = 640, height: int = 480) -> None:
    """Checks a film's file name and size before any work is done.

    Raises:
        UserError: the suffix is unknown, the size is not usable, or ``out`` is a directory.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot write {out}: its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    for name, value in (("width", width), ("height", height)):
        if not 64 <= value <= 4096 or value % 2:
            raise UserError(f"{name} is {value}, but must be an even number from 64 to 4096")
    if out.is_dir():
        raise UserError(f"{out} is a directory; name a file ending in {', '.join(SUFFIXES)}")


def draw_episode(trajectory: Trajectory, out: Path, width: int = 640, height: int = 480) -> dict[str, Any]:
    """Draws a recorded episode to a file; returns frames, fps and renderer, as ``render`` does."""
    if out.suffix.lower() == ".html":
        player.write_player(out, trajectory)
        return {"frames": trajectory.length + 1, "fps": 1.0 / trajectory.dt, "renderer": "html"}
    timeline = make_timeline(trajectory, _GIF_MAX_FPS if out.suffix.lower() == ".gif" else MAX_FPS)
    frames, renderer = draw_frames(trajectory, timeline, width, height)
    frames = counted(frames, len(timeline.time), "frames")
    count = video.write_video(out, frames, width, height, timeline.fps)
    return {"frames": count, "fps": timeline.fps, "renderer": renderer}


def draw_frames(
    trajectory: Trajectory, timeline: Timeline, width: int, height: int
) -> tuple[Iterator[np.ndarray], str]:
    """The frames with their captions, [H, W, 3] uint8 each, and the name of the renderer."""
    frames, renderer = _bare_frames(trajectory, timeline, width, height)
    captions = (overlay.captions(trajectory, timeline, index) for index in itertools.count())
    return map(overlay.draw_captions, frames, captions), renderer


def _bare_frames(
    trajectory: Trajectory, timeline: Timeline, width: int, height: int
) -> tuple[Iterator[np.ndarray], str]:
    """The frames without captions, and the name of the renderer."""
    backend, problem = gl.find_backend()
    if backend is not None:
        frames = scene.draw_frames(trajectory, timeline, width, height, backend)
        try:
            first = next(frames)
        except Exception as error:  # a driver may fail in any way at a picture larger than the probe's
            problem = f"{backend}: {type(error).__name__}: {error}".splitlines()[0]
        else:
            return itertools.chain([first], frames), backend
    say(gl.plain_drawing(problem))
    return drawing.draw_frames(trajectory, timeline, width, height), "2d"
