"""What ``mjData`` holds of a robot's bodies, as Gymnasium's Humanoid observes it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.compiler import check_compiler
from mjxppo.physics.mjx.model import host_constants
from mjxppo.physics.mjx.worlds import in_blocks, over_worlds, worlds_of

Array = jax.Array


@flax.struct.dataclass
class Bodies:
    """Quantities of N worlds, under MuJoCo's names."""

    cinert: Array
    """Each body's inertia about its tree's centre of mass, and its mass, [N, nbody, 10]."""
    cvel: Array
    """Each body's velocity, turning and moving, there, [N, nbody, 6]."""
    qfrc_actuator: Array
    """The actuators' forces on the degrees of freedom, [N, nv]."""
    ten_length: Array
    """Length of each tendon, [N, ntendon]."""
    ten_velocity: Array
    """Its rate, [N, ntendon]."""
    mass_center: Array
    """Centre of mass of all bodies (m), [N, 3]."""


class BodyQuantities:
    """Computes ``Bodies`` by MJX's own functions, whatever backend steps the worlds.

    Raises:
        UserError: MJX cannot represent the model.
    """

    def __init__(self, model: mujoco.MjModel, platform: str | None = None):
        """Prepares the model; ``platform`` is as for ``MjxPhysics``."""
        check_compiler()
        self.model = model
        self.platform = platform
        self._host = host_constants(model)

    def __call__(self, state: PhysicsState, ctrl: Array) -> Bodies:
        """The quantities in a state under controls [N, nu]; of its parameters, each world has its own."""
        worlds = worlds_of(self.model, self._host, state, self.platform)

        def of_block(qpos: Array, qvel: Array, _: Array, ctrl: Array, own: Mapping[str, Array]) -> Bodies:
            computed = over_worlds(
                worlds._replace(parameters=dict(own)), partial(_of_world, worlds.data), qpos, qvel, ctrl
            )
            return Bodies(*(jnp.moveaxis(x, -1, 0) for x in computed))

        with jax.default_matmul_precision("highest"):
            bodies: Bodies = in_blocks(of_block, worlds, state, ctrl)
        return bodies


def _of_world(data: mjx.Data, m: mjx.Model, qpos: Array, qvel: Array, ctrl: Array) -> tuple[Array, ...]:
    """The fields of ``Bodies`` in one world, from MJX's data of it."""
    data = data.replace(qpos=qpos, qvel=qvel, ctrl=ctrl)
    for stage in (mjx.kinematics, mjx.com_pos, mjx.tendon, mjx.transmission, mjx.fwd_velocity, mjx.fwd_actuation):
        data = stage(m, data)
    impl: Any = data._impl
    mass_center = m.body_mass @ data.xipos / m.body_mass.sum()
    return impl.cinert, data.cvel, data.qfrc_actuator, data.ten_length, impl.ten_velocity, mass_center
