"""The planar backend behind the physics interface."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
from jax import lax

from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.planar.compile import compile_model
from mjxppo.physics.planar.integrate import step

CPU_BLOCK = 256
"""Worlds stepped together on a CPU: few enough to stay in cache, many enough to fill the vector units."""
SMALLEST_BATCH = 8
"""Fewer worlds are padded: XLA treats a single one as scalars, and rounds differently."""


class PlanarPhysics(Physics):
    """MuJoCo's algorithm, specialised to one planar kinematic tree when it is traced.

    Works in the precision of ``state.qpos``. Inside, a quantity of a link or dof is an array over worlds, so
    that all arithmetic is elementwise over the batch.
    """

    name = "planar"

    def __init__(self, model: mujoco.MjModel, frame_skip: int = 1, block: int = CPU_BLOCK):
        """Compiles the model.

        Args:
            model: the MuJoCo model.
            frame_skip: MuJoCo steps per ``step``.
            block: worlds stepped together on a CPU.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip)
        self.planar_model = compile_model(model)
        self.block = block

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        num_worlds = state.qpos.shape[0]
        on_cpu = jax.default_backend() == "cpu"
        block = self.block if on_cpu and num_worlds > self.block else max(num_worlds, SMALLEST_BATCH)
        num_blocks = max(1, -(-num_worlds // block))

        def to_blocks(x: jax.Array) -> jax.Array:
            if missing := num_blocks * block - num_worlds:
                x = jnp.pad(x, ((0, missing), (0, 0)), mode="edge" if num_worlds else "constant")
            return x.reshape(num_blocks, block, x.shape[1])

        if num_blocks == 1 and num_worlds == block:
            return self._step_block(state, ctrl)
        blocks = jax.tree.map(to_blocks, (state, ctrl))
        stepped = lax.map(lambda block: self._step_block(*block), blocks)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[:num_worlds], stepped)

    def _step_block(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """Steps all worlds together: [N, n] arrays to n arrays [N], and back."""
        controls = _columns(ctrl)
        columns = tuple(_columns(x) for x in (state.qpos, state.qvel, state.qacc_warmstart))
        columns = lax.fori_loop(0, self.frame_skip, lambda _, s: step(self.planar_model, s, controls), columns)
        qpos, qvel, qacc = (jnp.stack(x, axis=-1) for x in columns)
        return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=qacc)


def _columns(x: jax.Array) -> list[jax.Array]:
    return [x[:, i] for i in range(x.shape[1])]
