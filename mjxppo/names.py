"""The names that configurations choose from. Importing this module costs nothing."""

from typing import Literal

BackendName = Literal["auto", "planar", "planar-pallas", "mjx", "mjx-warp"]
Activation = Literal["tanh", "relu", "silu", "elu"]
Initialization = Literal["orthogonal", "lecun_normal"]
StdKind = Literal["state_dependent", "state_independent"]
Engine = Literal["gymnasium", "own", "planar", "mjx", "mjx-warp"]
"""What an evaluation can be asked to run in."""
Privileged = Literal["none", "critic", "both"]

CHECKSUMS = "checksums.json"
"""The file that makes a checkpoint's folder whole; written last."""


def physics_of(engine: str) -> str:
    """For a person, what an evaluation ran in: its ``engine`` is gymnasium, one of our backends, or own."""
    if engine == "gymnasium":
        return "Gymnasium's C MuJoCo"
    return "the environment's own physics" if engine == "own" else f"{engine} physics"
