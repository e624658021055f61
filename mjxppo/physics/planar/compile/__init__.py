"""From a compiled ``MjModel`` to a ``PlanarModel``, or a refusal (numpy only)."""

from mjxppo.physics.planar.compile.tree import compile_model

__all__ = ["compile_model"]
