"""From a MuJoCo model to MJX's model, kept as host constants; and what the ``mjx`` backend refuses."""

from __future__ import annotations

import copy
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import DTypeLike
from mujoco import mjx

from mjxppo import xla
from mjxppo.errors import UserError

INTEGRATORS = {
    mujoco.mjtIntegrator.mjINT_EULER: "Euler",
    mujoco.mjtIntegrator.mjINT_RK4: "RK4",
    mujoco.mjtIntegrator.mjINT_IMPLICITFAST: "implicitfast",
}


def compiler_aborts() -> bool:
    """Whether compiling MJX's functions would end this process.

    Before JAX 0.12, XLA:CPU fails an internal check on the scatters in MJX (``symbolic_map.cc``: "Number of
    dimensions of this map must match") if multi-output fusion is on; merely naming the option turns it on.
    """
    fusion = re.search(r"xla_cpu_use_multi_output_fusion(?!\w)", os.environ.get("XLA_FLAGS", ""))
    return jax.__version_info__ < (0, 12) and fusion is not None and xla.platform() == "cpu"


def check_compiler() -> None:
    """Removes the setting that makes the compiler abort; raises UserError where the JAX backend has already started."""
    if not xla.backend_is_up() and jax.__version_info__ < (0, 12):
        xla.forgo_multi_output_fusion()
    if compiler_aborts():
        raise UserError(
            f"physics.backend: JAX {jax.__version__} cannot compile mjx with the settings that planar is fast with; "
            "make the mjx simulation before any other JAX computation of the process, or use jax>=0.12"
        )


def check_supported(model: mujoco.MjModel) -> None:
    """Raises UserError, which names the feature, where the backend would not compute what MuJoCo computes."""
    if model.opt.integrator not in INTEGRATORS:
        name = mujoco.mjtIntegrator(model.opt.integrator).name
        raise UserError(f"mjx: integrator {name} is not supported; use {', '.join(INTEGRATORS.values())}")
    if model.opt.cone != mujoco.mjtCone.mjCONE_PYRAMIDAL:
        raise UserError("mjx: elliptic friction cones are not supported; set cone='pyramidal' or use mjx-warp")
    check_carried_state(model, "mjx")


def check_carried_state(model: mujoco.MjModel, backend: str) -> None:
    """Raises UserError for models with state beyond positions, velocities and the warm start."""
    for count, what in (
        (model.na, "stateful actuators"),
        (model.nhistory, "delays (history buffers)"),
        (model.nplugin, "plugins"),
        (model.nflex, "flexes"),
    ):
        if count:
            raise UserError(f"{backend}: {what} are not supported, their state is not carried between steps")


def host_constants(model: mujoco.MjModel) -> tuple[Any, Any]:
    """MJX's (Model, Data) of a MuJoCo model with NumPy leaves in float64.

    On the host, because an array that is committed to one device cannot be closed over by a program that is sharded
    over several; in float64, so that one backend object serves programs of either precision (see ``constants``).
    """
    model = copy.copy(model)
    # These only choose MJX's own solver and storage, which are not used (see newton.py); PGS would be refused.
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    try:
        with jax.enable_x64(True):
            mjx_model = mjx.put_model(model, impl="jax")
            mjx_data = mjx.make_data(mjx_model)
            return jax.tree.map(np.asarray, (mjx_model, mjx_data))
    except (NotImplementedError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"mjx: MJX cannot represent this model: {reason}") from error


def constants(tree: Any, dtype: DTypeLike) -> Any:
    """The tree's NumPy leaves as uncommitted constants of the program being traced, floats in ``dtype``."""

    def convert(leaf: np.ndarray) -> jax.Array:
        if np.issubdtype(leaf.dtype, np.floating):
            return jnp.asarray(leaf, dtype)
        return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(convert, tree)
