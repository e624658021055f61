"""Names of the physics that an evaluation runs in; imports no JAX, so ``watch`` and ``--help`` start without it."""

from __future__ import annotations

from typing import Literal

from mjxppo.envs.registry import TASKS

Engine = Literal["gymnasium", "own", "planar", "spatial", "mjx", "mjx-warp"]
"""Place of an evaluation: Gymnasium's C MuJoCo, the run's own environment, or a physics backend of this package."""


def physics_of(engine: str, env: str) -> str:
    """Text for the user that names the physics of an evaluation of ``env``, a canonical name, by ``engine``."""
    if engine == "gymnasium":
        if env not in TASKS or not TASKS[env].is_robot:
            return "Gymnasium's own environment"
        return "C MuJoCo" if TASKS[env].one_world else "Gymnasium's C MuJoCo"
    return "the environment's own physics" if engine == "own" else f"{engine} physics"
