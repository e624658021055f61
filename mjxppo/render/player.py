"""An episode as one web page that plays it; the page needs neither a network nor a video codec."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np

from mjxppo.files import replacing
from mjxppo.render.camera import camera_path
from mjxppo.render.outline import make_outline
from mjxppo.render.timeline import make_timeline
from mjxppo.render.trajectory import Trajectory

_DATA_MARK = "__EPISODE__"


def write_player(path: Path, trajectory: Trajectory) -> None:
    """Writes the page: the player with the states of all steps, between which it interpolates."""
    # The episode goes into a <script> element, which a "</script>" in a name must not end.
    data = json.dumps(_episode(trajectory), separators=(",", ":")).replace("<", "\\u003c")
    template = resources.files("mjxppo.render").joinpath("player.html").read_text(encoding="utf-8")
    with replacing(path) as temporary:
        temporary.write_text(template.replace(_DATA_MARK, data), encoding="utf-8")


def _episode(trajectory: Trajectory) -> dict:
    """The values that player.html reads, by its names."""
    outline = make_outline(trajectory.model, trajectory.qpos)
    timeline = make_timeline(trajectory)
    path = camera_path(trajectory.model, timeline)
    step_time = np.arange(trajectory.length + 1) * trajectory.dt
    camera = [np.interp(step_time, timeline.time, path.target[:, axis]) for axis in (0, 2)]
    ending = "terminated" if trajectory.terminated else "time limit" if trajectory.truncated else ""
    return {
        "task": trajectory.gym_id,
        "dt": trajectory.dt,
        "limit": trajectory.step_limit,
        "ending": ending,
        "floor": outline.floor,
        "viewHeight": path.view_height,
        "radius": [round(float(radius), 4) for radius in outline.radius],
        "color": ["#{:02x}{:02x}{:02x}".format(*color) for color in outline.color],
        # Millimetres, [steps + 1][strokes * 4].
        "ends": np.rint(outline.ends * 1000).astype(int).reshape(len(outline.ends), -1).tolist(),
        "camera": np.rint(np.stack(camera, axis=1) * 1000).astype(int).tolist(),
        "returns": [round(float(value), 2) for value in trajectory.returns],
    }
