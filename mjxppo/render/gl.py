"""Search for an OpenGL that works without a display; a broken one cannot end the process that searches.

A missing or broken OpenGL fails in many ways: an exception when MuJoCo is imported, one when a context is made, another
from a finaliser at exit, or an abort inside a driver. So each candidate is tried once in a process of its own, and a
candidate is used only if it has drawn a picture there.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import mujoco
import numpy as np

from mjxppo.render.edges import smooth_edges

DEFERRED = "MJXPPO_GL"
"""Environment variable that keeps the user's ``MUJOCO_GL`` while ``mujoco`` is imported: with ``MUJOCO_GL`` set, a
missing library would make that import fail."""
_DISABLED = ("disable", "disabled", "off", "false", "0")
_UNNAMED = ("", "enable", "enabled", "on", "true", "1")
_PROBE_TIMEOUT_S = 90
# Draws with the class that films use; argv holds the backend and the folder that this package is in.
_PROBE = """
import sys
sys.path.append(sys.argv[2])
import mujoco
from mjxppo.render.gl import Offscreen
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with Offscreen(model, 64, 48, sys.argv[1]) as screen:
    screen.update(data, mujoco.MjvCamera())
    assert screen.draw().any(), "the picture is black"
print("drawn")
"""


class GlSearch(NamedTuple):
    """The result of the search for an OpenGL."""

    backend: str | None
    """egl, osmesa, glfw or cgl; None where none works."""
    problem: str
    """Why none works, in one line; empty where one does."""


def candidates() -> list[str]:
    """The backends to try, best first; only the one that ``MUJOCO_GL`` names, or none, where it is set."""
    name = _mujoco_gl().lower().strip()
    if name in _DISABLED:
        return []
    if name not in _UNNAMED:
        return ["glfw" if name in ("glx", "wgl") else name]
    if sys.platform == "darwin":
        return ["cgl", "glfw"]
    if sys.platform != "linux":
        return ["glfw"]
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return ["egl", "osmesa", *(["glfw"] if has_display else [])]


def _mujoco_gl() -> str:
    """The user's ``MUJOCO_GL``, empty where it is not set."""
    return os.environ.get(DEFERRED) or os.environ.get("MUJOCO_GL") or ""


def find_backend() -> GlSearch:
    """Looks for an OpenGL that can draw off screen; the result is cached."""
    return _find_backend(tuple(candidates()))


@functools.cache
def _find_backend(names: tuple[str, ...]) -> GlSearch:
    if not names:
        return GlSearch(None, "MUJOCO_GL switches it off")
    problems = []
    for name in names:
        problem = _probe(name)
        if problem is None:
            return GlSearch(name, "")
        problems.append(f"{name}: {problem}")
    return GlSearch(None, "; ".join(problems))


def _probe(name: str) -> str | None:
    """Draws with one backend in a process of its own; returns what went wrong, or None."""
    if name not in ("egl", "osmesa", "glfw", "cgl"):
        return "not a backend; MUJOCO_GL may be egl, osmesa, glfw or disabled"
    # MUJOCO_GL itself is read when mujoco is imported and may fail there; Offscreen does not need it.
    environment = {**os.environ, "MUJOCO_GL": "disabled"}
    environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-c", _PROBE, name, str(Path(__file__).parents[2])]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "did not answer"
    except OSError as error:
        return str(error)
    if done.returncode == 0 and "drawn" in done.stdout:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    problem = (errors or lines or [f"exit status {done.returncode}"])[0][:160]
    # PyOpenGL's way of saying that its library could not be loaded.
    return "its library is not installed" if "'NoneType' object has no attribute" in problem else problem


class Offscreen:
    """Renderer of a model's scene to an array, as ``mujoco.Renderer``, with a backend that is chosen at run time.

    ``mujoco.Renderer`` takes the backend that ``MUJOCO_GL`` named when ``mujoco`` was first imported, long before a
    picture is needed. Lives in one thread. Where a CPU draws, edges are smoothed afterwards instead of sampled.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, backend: str):
        model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(height, model.vis.global_.offheight)
        self.scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._model = model
        self._option = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels, self._depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        self._gl: Any = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        try:
            self._gl.make_current()
            self.software = _draws_on_a_cpu()
            if self.software:
                # Samples take three quarters of the time of a frame, fine meshes a fifth of the rest.
                quality = model.vis.quality
                quality.offsamples, quality.numslices, quality.numstacks = 0, 16, 8
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        except BaseException:
            self._gl.free()
            raise

    def update(self, data: mujoco.MjData, camera: mujoco.MjvCamera) -> None:
        """Fills ``scene`` from a state; the caller may add to it before ``draw``."""
        category = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, category, self.scene)

    def draw(self, background: np.ndarray | None = None) -> np.ndarray:
        """The scene as an RGB picture, [H, W, 3]; ``background``, such a picture, is seen where nothing is."""
        mujoco.mjr_render(self._rect, self.scene, self._context)
        if background is None:
            mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
            picture = np.flipud(self._pixels).copy()
        else:
            mujoco.mjr_readPixels(self._pixels, self._depth, self._rect, self._context)
            picture, empty = np.flipud(self._pixels).copy(), np.flipud(self._depth) == 1.0
            # Row by row where that is possible: a choice for each pixel takes five times as long.
            whole = empty.all(axis=1)
            picture[whole] = background[whole]
            at = np.flatnonzero(empty & ~whole[:, None])
            picture.reshape(-1, 3)[at] = background.reshape(-1, 3)[at]
        if self.software:
            smooth_edges(picture)
        return picture

    def close(self) -> None:
        """Frees the OpenGL context now: in a finaliser at exit this may fail."""
        self._context.free()
        self._gl.free()

    def __enter__(self) -> Offscreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _draws_on_a_cpu() -> bool:
    """Whether the current OpenGL is one of Mesa's that draw on the CPU."""
    from OpenGL import GL  # its platform is chosen by mujoco.egl and its like, which have just been imported

    name = (GL.glGetString(GL.GL_RENDERER) or b"").decode(errors="replace").lower()
    return any(software in name for software in ("llvmpipe", "softpipe", "swrast", "software"))


def plain_drawing(problem: str) -> str:
    """The message that a drawing is made without OpenGL, and why."""
    return (
        f"render: OpenGL could not be started ({problem}); making a plain 2-D drawing instead. "
        f"For the full picture {advice()}."
    )


def advice() -> str:
    """The remedy for a missing OpenGL, as the end of a sentence."""
    if _mujoco_gl():
        return "unset MUJOCO_GL, or set it to a backend that works here (egl, osmesa, glfw)"
    if sys.platform == "linux":
        return "install EGL (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri; Fedora: dnf install mesa-libEGL)"
    return "run it in a session with a display"
