"""From a compiled ``MjModel`` to a ``PlanarModel``, or an error that names what is not supported."""

from mjxppo.physics.planar.compile.tree import compile_model

__all__ = ["compile_model"]
