"""Batched physics: a MuJoCo model in, a step function over N worlds out.

``make`` returns one of several backends. They compute the same and differ in speed and in the models that they accept.
"""

from __future__ import annotations

from typing import get_args

import mujoco

from mjxppo import xla
from mjxppo.config.schema import BackendName
from mjxppo.config.values import whole
from mjxppo.errors import UserError
from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.columns import ColumnPhysics
from mjxppo.physics.compiler import allow_mjx, is_affected
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.pallas_backend import KERNELS
from mjxppo.physics.parameters import Parameters, modified_model, modify_model
from mjxppo.physics.planar import PlanarPhysics
from mjxppo.physics.set_const import set_const
from mjxppo.physics.spatial import SpatialPhysics

__all__ = [
    "BackendName",
    "Parameters",
    "Physics",
    "PhysicsState",
    "make",
    "modified_model",
    "modify_model",
    "needs_mjx",
    "set_const",
]

_COLUMNS: dict[str, type[ColumnPhysics]] = {
    "planar": PlanarPhysics,
    "spatial": SpatialPhysics,
    **KERNELS,
}


def make(
    mj_model: mujoco.MjModel, backend: BackendName = "auto", frame_skip: int = 1, platform: str | None = None
) -> Physics:
    """Compiles a MuJoCo model into a batched simulator.

    Args:
        mj_model: the model to simulate.
        backend: "planar" (planar trees only, fastest), "planar-pallas" (the same as one kernel on a GPU), "spatial"
            (trees in three dimensions), "spatial-pallas" (the same as one kernel on a GPU), "mjx" (MJX-JAX), "mjx-warp"
            (MJX on NVIDIA Warp), or "auto": the first of planar, spatial and mjx that can represent the model, on a
            GPU as kernels.
        frame_skip: MuJoCo steps per ``step``, at least 1.
        platform: what the program is built for, "cpu" or "gpu"; None: what this process computes on.

    Raises:
        UserError: unknown backend, or the backend cannot represent the model exactly; the message names the
            feature.
    """
    if backend not in get_args(BackendName):
        raise UserError(f"physics.backend: {backend!r} is none of {', '.join(get_args(BackendName))}")
    frame_skip = whole("frame_skip", frame_skip)
    if frame_skip < 1:
        raise UserError(f"frame_skip: must be at least 1, not {frame_skip}")
    kinds: tuple[type[ColumnPhysics], ...] = ()
    if backend == "auto":
        if is_affected() and not xla.backend_is_up() and needs_mjx(mj_model):
            allow_mjx()
        kinds = tuple(KERNELS.values())
    elif backend in _COLUMNS:
        kinds = (_COLUMNS[backend],)
    refusals: dict[str, list[str]] = {}
    for kind in kinds:
        try:
            made: Physics = kind(mj_model, frame_skip, platform=platform)
        except UnsupportedModelError as error:
            if backend != "auto":
                raise
            refusals.setdefault(error.reason, []).append(kind.kind)
        else:
            break
    else:
        # MJX takes long to load, and most models do not need it.
        from mjxppo.physics.mjx import MjxPhysics, MjxWarpPhysics

        if backend == "mjx-warp":
            return MjxWarpPhysics(mj_model, frame_skip)
        made = MjxPhysics(mj_model, frame_skip, platform)
    lines = (f"{' and '.join(names)} physics cannot represent {reason}" for reason, names in refusals.items())
    made.not_planar = "; ".join(lines) or None
    return made


def needs_mjx(mj_model: mujoco.MjModel) -> bool:
    """Whether only MJX can simulate this model on a CPU; does not start JAX's backend."""
    for kind in (PlanarPhysics, SpatialPhysics):
        try:
            kind(mj_model)
        except UnsupportedModelError:
            continue
        return False
    return True
