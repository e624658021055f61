"""Batched physics: a MuJoCo model in, a step function over N worlds out.

``make`` returns one of several backends. They compute the same and differ in speed and in the models that they accept.
"""

from __future__ import annotations

from typing import get_args

import mujoco

from mjxppo.config.schema import BackendName
from mjxppo.errors import UserError
from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.parameters import Parameters, modified_model, modify_model
from mjxppo.physics.planar import PlanarPallasPhysics, PlanarPhysics, UnsupportedModelError
from mjxppo.physics.set_const import set_const

__all__ = [
    "BackendName",
    "Parameters",
    "Physics",
    "PhysicsState",
    "make",
    "modified_model",
    "modify_model",
    "set_const",
]


def make(
    mj_model: mujoco.MjModel, backend: BackendName = "auto", frame_skip: int = 1, platform: str | None = None
) -> Physics:
    """Compiles a MuJoCo model into a batched simulator.

    Args:
        mj_model: the model to simulate.
        backend: "planar" (planar trees only, fastest), "planar-pallas" (the same as one kernel on a GPU), "mjx"
            (MJX-JAX), "mjx-warp" (MJX on NVIDIA Warp), or "auto": where the model is a planar tree planar-pallas on a
            GPU and planar elsewhere, else mjx.
        frame_skip: MuJoCo steps per ``step``, at least 1.
        platform: what the program is built for, "cpu" or "gpu"; None: what this process computes on.

    Raises:
        UserError: unknown backend, or the backend cannot represent the model exactly; the message names the
            feature.
    """
    if backend not in get_args(BackendName):
        raise UserError(f"physics.backend: {backend!r} is none of {', '.join(get_args(BackendName))}")
    if frame_skip < 1:
        raise UserError(f"frame_skip: must be at least 1, not {frame_skip}")
    if backend in ("auto", "planar", "planar-pallas"):
        kind = PlanarPhysics if backend == "planar" else PlanarPallasPhysics
        try:
            return kind(mj_model, frame_skip, platform=platform)
        except UnsupportedModelError:
            if backend != "auto":
                raise
    # MJX takes long to load, and planar models do not need it.
    from mjxppo.physics.mjx import MjxPhysics, MjxWarpPhysics

    if backend == "mjx-warp":
        return MjxWarpPhysics(mj_model, frame_skip)
    return MjxPhysics(mj_model, frame_skip, platform)
