"""The names that configurations choose from. Importing this module costs nothing."""

from typing import Literal

BackendName = Literal["auto", "planar", "planar-pallas", "mjx", "mjx-warp"]
Activation = Literal["tanh", "relu", "silu", "elu"]
Initialization = Literal["orthogonal", "lecun_normal"]
StdKind = Literal["state_dependent", "state_independent"]

CHECKSUMS = "checksums.json"
"""The file that makes a checkpoint's folder whole; written last."""
