"""The planar backend behind the physics interface."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
from jax import lax

from mjxppo import xla
from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.maths import separate_arrays
from mjxppo.physics.planar.compile import compile_model
from mjxppo.physics.planar.integrate import step
from mjxppo.physics.planar.model import PlanarModel
from mjxppo.physics.planar.solution import constrained_acceleration
from mjxppo.physics.worlds import map_blocks

CPU_BLOCK = 256
"""Worlds stepped together on a CPU: few enough to stay in cache, many enough to fill the vector units."""
SMALLEST_BATCH = 8
"""Fewer worlds are padded: XLA compiles a single one as scalars, which rounds differently."""


class PlanarPhysics(Physics):
    """MuJoCo's algorithm, specialised to one planar kinematic tree when it is traced.

    Works in the precision of ``state.qpos``. Inside, a quantity of a link or dof is an array over worlds, so
    that all arithmetic is elementwise over the batch.
    """

    name = "planar"

    def __init__(
        self, model: mujoco.MjModel, frame_skip: int = 1, block_size: int = CPU_BLOCK, platform: str | None = None
    ):
        """Compiles the model; on a CPU ``block_size`` worlds are stepped together.

        The program is built for the ``platform`` "cpu" or "gpu"; None: the one that this process computes on.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip)
        self.planar_model = compile_model(model)
        self.block_size = block_size
        self.platform = platform

    @property
    def on_gpu(self) -> bool:
        """Whether to trace the program for a GPU."""
        return xla.platform(self.platform) == "gpu"

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        num_worlds = state.qpos.shape[0]
        in_blocks = not self.on_gpu and num_worlds > self.block_size
        block_size = self.block_size if in_blocks else max(num_worlds, SMALLEST_BATCH)
        # The model's numbers that differ between worlds, arrays [N]: a loop over blocks can take arrays only.
        own, rebuild = separate_arrays(self.model_of(state))

        def step_block(own: list[jax.Array], state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
            return self._step_block(rebuild(own), state, ctrl)

        worlds = own, replace(state, parameters=None), ctrl
        if num_worlds == block_size:
            return step_block(*worlds)
        stepped: PhysicsState = map_blocks(step_block, worlds, block_size)
        return stepped

    def model_of(self, state: PhysicsState) -> PlanarModel:
        """The model; where worlds have their own parameters, arrays [N] stand in the place of its constants."""
        if not state.parameters:
            return self.planar_model
        parameters = {name: x.astype(state.qpos.dtype) for name, x in state.parameters.items()}
        return compile_model(self.model, parameters)

    def _step_block(self, model: PlanarModel, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """Steps all worlds together: [N, n] arrays to n arrays [N], and back."""
        controls = _columns(ctrl)
        columns = tuple(_columns(x) for x in (state.qpos, state.qvel, state.qacc_warmstart))
        solver = partial(constrained_acceleration, early_exit=not self.on_gpu)
        columns = lax.fori_loop(0, self.frame_skip, lambda _, s: step(model, s, controls, solver), columns)
        qpos, qvel, qacc = (jnp.stack(x, axis=-1) for x in columns)
        return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=qacc)


def _columns(x: jax.Array) -> list[jax.Array]:
    return [x[:, i] for i in range(x.shape[1])]
