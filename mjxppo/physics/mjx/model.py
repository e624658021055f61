"""From a MuJoCo model to MJX's model, kept as host constants."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import DTypeLike
from mujoco import mjx

from mjxppo.physics.errors import UnsupportedModelError


def host_constants(model: mujoco.MjModel) -> tuple[Any, Any]:
    """MJX's (Model, Data) of a MuJoCo model with NumPy leaves in float64.

    On the host, because an array that is committed to one device cannot be closed over by a program that is sharded
    over several; in float64, so that one backend object serves programs of either precision (see ``constants``).
    """
    model = copy.copy(model)
    # These only choose MJX's own solver and storage, which are not used (see newton.py); PGS would be refused.
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    model.opt.enableflags = 0  # what else is switched on is refused, or computes nothing that a step needs
    try:
        with jax.enable_x64(True):
            mjx_model = mjx.put_model(model, impl="jax")
            mjx_data = mjx.make_data(mjx_model)
            return jax.tree.map(np.asarray, (mjx_model, mjx_data))
    except (NotImplementedError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UnsupportedModelError(f"mjx: MJX cannot represent this model: {reason}") from error


def constants(tree: Any, dtype: DTypeLike) -> Any:
    """The tree's NumPy leaves as uncommitted constants of the program being traced, floats in ``dtype``."""

    def convert(leaf: np.ndarray) -> jax.Array:
        if np.issubdtype(leaf.dtype, np.floating):
            return jnp.asarray(leaf, dtype)
        return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(convert, tree)
