"""MJX backends: ``mjx`` runs MJX's JAX implementation under our own solver, ``mjx-warp`` runs MJX on Warp."""

from mjxppo.physics.mjx.jax_backend import MjxPhysics

__all__ = ["MjxPhysics"]
