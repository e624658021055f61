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
from mjxppo.physics.planar import PlanarPhysics, UnsupportedModelError
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


def make(mj_model: mujoco.MjModel, backend: BackendName = "auto", frame_skip: int = 1) -> Physics:
    """Compiles a MuJoCo model into a batched simulator.

    Args:
        mj_model: the model to simulate.
        backend: "planar" (planar trees only, fastest), "planar-pallas" (the same as one kernel on a GPU), "mjx"
            (MJX-JAX), "mjx-warp" (MJX on NVIDIA Warp), or "auto": planar where the model is one, else mjx.
        frame_skip: MuJoCo steps per ``step``, at least 1.

    Raises:
        UserError: unknown backend, or the backend cannot represent the model exactly; the message names the
            feature.
    """
    if backend not in get_args(BackendName):
        raise UserError(f"physics.backend: {backend!r} is none of {', '.join(get_args(BackendName))}")
    if frame_skip < 1:
        raise UserError(f"frame_skip: must be at least 1, not {frame_skip}")
    if backend == "planar-pallas":
        # Pallas takes long to load, and only this backend needs it.
        from mjxppo.physics.planar.pallas_backend import PlanarPallasPhysics

        return PlanarPallasPhysics(mj_model, frame_skip)
    if backend in ("auto", "planar"):
        try:
            return PlanarPhysics(mj_model, frame_skip)
        except UnsupportedModelError:
            if backend == "planar":
                raise
    # MJX takes long to load, and planar models do not need it.
    from mjxppo.physics.mjx import MjxPhysics, MjxWarpPhysics

    return (MjxWarpPhysics if backend == "mjx-warp" else MjxPhysics)(mj_model, frame_skip)
