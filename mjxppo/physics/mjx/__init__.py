"""MJX backends: ``mjx`` runs MJX's JAX implementation under our own solver, ``mjx-warp`` runs MJX on Warp."""

from mjxppo.physics.mjx.jax_backend import MjxPhysics
from mjxppo.physics.mjx.warp_backend import MjxWarpPhysics

__all__ = ["MjxPhysics", "MjxWarpPhysics"]
