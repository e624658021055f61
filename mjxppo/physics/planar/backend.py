"""The planar backend behind the physics interface."""

from __future__ import annotations

from mjxppo.physics.columns import ColumnPhysics
from mjxppo.physics.integrate import Dynamics, advance
from mjxppo.physics.planar.compile import compile_model
from mjxppo.physics.planar.problem import build_problem


class PlanarPhysics(ColumnPhysics):
    """MuJoCo's algorithm for trees that move in the xz plane."""

    kind = "planar"
    dynamics = Dynamics(build_problem, lambda model, qpos, qvel, duration: advance(qpos, qvel, duration))
    cpu_block = 256
    compile = staticmethod(compile_model)
