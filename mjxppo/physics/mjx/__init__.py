"""MJX backends: ``mjx`` runs MJX's JAX implementation under our own solver, ``mjx-warp`` runs MJX on Warp."""

from mjxppo.physics.messages import import_mjx

import_mjx()  # before anything below imports it

from mjxppo.physics.mjx.jax_backend import MjxPhysics  # noqa: E402
from mjxppo.physics.mjx.warp_backend import MjxWarpPhysics  # noqa: E402

__all__ = ["MjxPhysics", "MjxWarpPhysics"]
