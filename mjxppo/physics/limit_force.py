"""The force with which the limit of a joint acts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.elements import limit_rows
from mjxppo.physics.planar.compile import compile_model

Array = jax.Array


def limit_force(model: mujoco.MjModel, dof: int, state: PhysicsState, qacc: Array) -> Array:
    """The force of a dof's limit in each world with accelerations ``qacc`` [N, nv], [N]; 0 away from the limit.

    Where nothing else constrains the dof, this is its ``qfrc_constraint``. Raises UnsupportedModelError where the model
    is not planar.
    """
    position, velocity, acceleration = state.qpos[:, dof], state.qvel[:, dof], qacc[:, dof]
    own = {name: x.astype(state.qpos.dtype) for name, x in (state.parameters or {}).items()}
    force = jnp.zeros_like(position)
    for limit in (limit for limit in compile_model(model, own).limits if limit.dof == dof):
        for row in limit_rows(limit, position, velocity):
            sign = row.jacobian[dof]
            force = force - sign * row.weight * jnp.minimum(sign * acceleration + row.offset, 0.0)
    return force
