"""An episode as one web page that plays it; the page needs neither a network nor a video codec."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np

from mjxppo.files import replacing
from mjxppo.render.camera import camera_path, tile_size
from mjxppo.render.outline import floor_height
from mjxppo.render.shapes import make_shapes, poses, reach
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
    timeline = make_timeline(trajectory)
    path = camera_path(trajectory.model, timeline)
    step_time = np.arange(trajectory.length + 1) * trajectory.dt
    tile = tile_size(path.view_height)
    camera = np.stack([np.interp(step_time, timeline.time, path.target[:, axis]) for axis in range(3)], axis=1)
    position, rotation = poses(trajectory.model, trajectory.qpos)
    rows = np.concatenate([position / tile, rotation], axis=2).reshape(len(position), -1)
    ending = "terminated" if trajectory.terminated else "time limit" if trajectory.truncated else ""
    return {
        "task": trajectory.gym_id,
        "dt": trajectory.dt,
        "limit": trajectory.step_limit,
        "ending": ending,
        "floor": floor_height(trajectory.model),
        "viewHeight": path.view_height,
        "reach": reach(trajectory.model, trajectory.qpos, camera),
        "tile": tile,
        "shapes": make_shapes(trajectory.model),
        # Of each body x, y, z in tiles and a quaternion, in thousandths, [steps + 1][bodies * 7].
        "poses": np.rint(rows * 1000).astype(int).tolist(),
        "camera": np.rint(camera / tile * 1000).astype(int).tolist(),
        "returns": [round(float(value), 2) for value in trajectory.returns],
    }
