"""Backends whose programs are unrolled over a robot's numbers: each is an array over worlds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
from jax import lax

from mjxppo import xla
from mjxppo.physics.base import Physics, PhysicsState
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.integrate import Dynamics, Solver, State, step
from mjxppo.physics.maths import separate_arrays
from mjxppo.physics.solution import constrained_acceleration
from mjxppo.physics.worlds import map_blocks

SMALLEST_BATCH = 8
"""Fewer worlds are padded: XLA compiles a single one as scalars, which rounds differently."""


class ColumnPhysics(Physics):
    """MuJoCo's algorithm, specialised to one kinematic tree when it is traced.

    Works in the precision of ``state.qpos``. Inside, a quantity of a link or dof is an array over worlds, so
    that all arithmetic is elementwise over the batch.
    """

    kind: ClassVar[str]
    """What it is called where it refuses a model."""
    dynamics: ClassVar[Dynamics]
    differentiable = True
    cpu_block: ClassVar[int]
    """Worlds stepped together on a CPU: few enough to stay in cache, many enough to fill the vector units."""

    def __init__(
        self,
        model: mujoco.MjModel,
        frame_skip: int = 1,
        block_size: int | None = None,
        platform: str | None = None,
    ):
        """Compiles the model; on a CPU ``block_size`` worlds are stepped together; None: ``cpu_block``.

        The program is built for the ``platform`` "cpu" or "gpu"; None: the one that this process computes on.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip)
        try:
            self.compiled = self.compile(model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(error.reason, self.kind) from None
        self.block_size = block_size or self.cpu_block
        self.platform = platform

    @staticmethod
    @abstractmethod
    def compile(model: mujoco.MjModel, parameters: Mapping[str, jax.Array] | None = None) -> Any:
        """The model as the backend's own numbers; with ``parameters``, arrays [N] stand in the place of constants.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """

    @property
    def name(self) -> str:  # type: ignore[override]
        """The backend that computes, as ``physics.make`` takes it."""
        return self.kind

    @property
    def on_gpu(self) -> bool:
        """Whether to trace the program for a GPU."""
        return xla.platform(self.platform) == "gpu"

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        stepped: PhysicsState = self._in_blocks(self._step_block, state, ctrl)
        return stepped

    def _in_blocks(self, step_block: Callable[..., Any], state: PhysicsState, ctrl: jax.Array) -> Any:
        """``step_block(model, state, ctrl)`` of all worlds, on a CPU a block at a time."""
        num_worlds = state.qpos.shape[0]
        in_blocks = not self.on_gpu and num_worlds > self.block_size
        block_size = self.block_size if in_blocks else max(num_worlds, SMALLEST_BATCH)
        # The model's numbers that differ between worlds, arrays [N]: a loop over blocks can take arrays only.
        own, rebuild = separate_arrays(self.model_of(state))

        def one_block(own: list[jax.Array], state: PhysicsState, ctrl: jax.Array) -> Any:
            return step_block(rebuild(own), state, ctrl)

        worlds = own, replace(state, parameters=None), ctrl
        return one_block(*worlds) if num_worlds == block_size else map_blocks(one_block, worlds, block_size)

    def model_of(self, state: PhysicsState) -> Any:
        """The model; where worlds have their own parameters, arrays [N] stand in the place of its constants."""
        if not state.parameters:
            return self.compiled
        parameters = {name: x.astype(state.qpos.dtype) for name, x in state.parameters.items()}
        return self.compile(self.model, parameters)

    def _step_block(self, model: Any, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """Steps all worlds together: [N, n] arrays to n arrays [N], and back."""
        one_step = partial(step, self.dynamics, model, ctrl=columns_of(ctrl), solver=self._solver())
        columns = lax.fori_loop(0, self.frame_skip, lambda _, s: one_step(s), state_columns(state))
        return state_of(columns)

    def _solver(self) -> Solver:
        return partial(constrained_acceleration, early_exit=not self.on_gpu)


def columns_of(x: jax.Array) -> list[jax.Array]:
    """The columns of an array [N, n]: n arrays [N]."""
    return [x[:, i] for i in range(x.shape[1])]


def state_columns(state: PhysicsState) -> State:
    """The columns of qpos, qvel and the warm start."""
    return columns_of(state.qpos), columns_of(state.qvel), columns_of(state.qacc_warmstart)


def state_of(columns: State) -> PhysicsState:
    """The state of worlds whose columns are given."""
    qpos, qvel, qacc = (jnp.stack(x, axis=-1) for x in columns)
    return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=qacc)
