"""Pictures of the current states of many worlds of one model."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.console import say
from mjxppo.render import drawing, gl
from mjxppo.render.camera import camera_of_each
from mjxppo.render.scene import Stage


class WorldsView:
    """Renderer of the worlds' states, each from the side; without OpenGL it makes plain 2-D drawings."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        """Looks for an OpenGL; pictures are ``width`` by ``height`` pixels."""
        self._model, self._size = model, (width, height)
        self._stage: Stage | None = None
        backend, problem = gl.find_backend()
        if backend is None:
            say(gl.plain_drawing(problem))
        else:
            self._stage = Stage(model, camera_of_each(model, model.qpos0[None]).view_height, width, height, backend)

    def draw(self, qpos: np.ndarray) -> tuple[np.ndarray, ...]:
        """Draws a picture [H, W, 3] uint8 of each of N worlds with positions ``qpos`` [N, nq]."""
        cameras = camera_of_each(self._model, qpos)
        if self._stage is None:
            return tuple(drawing.draw_states(self._model, qpos, cameras, *self._size))
        return tuple(self._stage.draw(*world) for world in zip(qpos, cameras.target, strict=True))

    def close(self) -> None:
        """Frees the OpenGL context."""
        if self._stage is not None:
            self._stage.close()
