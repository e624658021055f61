"""MJX backends: ``mjx`` is MJX's JAX implementation with this package's own solver, ``mjx-warp`` is MJX on Warp."""

from mjxppo.physics.messages import import_mjx

import_mjx()  # before the modules below import MJX and let it print

from mjxppo.physics.mjx.jax_backend import MjxPhysics  # noqa: E402
from mjxppo.physics.mjx.warp_backend import MjxWarpPhysics  # noqa: E402

__all__ = ["MjxPhysics", "MjxWarpPhysics"]
