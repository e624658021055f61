"""From a compiled ``MjModel`` to a ``SpatialModel``, or an error that names what is not supported."""

from mjxppo.physics.spatial.compile.tree import compile_model

__all__ = ["compile_model"]
