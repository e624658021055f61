"""Pictures of many worlds of one model as they are at the moment."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.console import say
from mjxppo.render import drawing, gl
from mjxppo.render.camera import camera_of_each
from mjxppo.render.scene import Stage


class WorldsView:
    """Draws the states of worlds, each with the camera at its own side; without OpenGL, as plain 2-D drawings."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self._model, self._size = model, (width, height)
        self._stage: Stage | None = None
        backend, problem = gl.find()
        if backend is None:
            say(gl.plain_drawing(problem))
        else:
            self._stage = Stage(model, camera_of_each(model, model.qpos0[None]).view_height, width, height, backend)

    def draw(self, qpos: np.ndarray) -> tuple[np.ndarray, ...]:
        """A picture [H, W, 3] uint8 of each of N worlds, whose positions are ``qpos`` [N, nq]."""
        cameras = camera_of_each(self._model, qpos)
        if self._stage is None:
            return tuple(drawing.draw_states(self._model, qpos, cameras, *self._size))
        return tuple(self._stage.draw(*world) for world in zip(qpos, cameras.target, strict=True))

    def close(self) -> None:
        """Gives OpenGL's context back."""
        if self._stage is not None:
            self._stage.close()
