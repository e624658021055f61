"""mjxppo: GPU-native, end-to-end simulation training on MuJoCo models."""

from mjxppo import runtime as _runtime

_runtime.setup()

__version__ = "0.1.0"
