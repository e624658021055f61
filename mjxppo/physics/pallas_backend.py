"""Backends whose environment step is one GPU kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax
import mujoco

from mjxppo.errors import UserError
from mjxppo.physics.base import Evaluation, PhysicsState
from mjxppo.physics.columns import ColumnPhysics, state_columns
from mjxppo.physics.integrate import Dynamics
from mjxppo.physics.planar.backend import PlanarPhysics
from mjxppo.physics.spatial.backend import SpatialPhysics, advance_qpos
from mjxppo.physics.spatial.contact_forces import contact_forces
from mjxppo.physics.spatial.model import SpatialModel
from mjxppo.physics.spatial.problem import build_problem
from mjxppo.physics.worlds import fold_vmap

THREADS = 32
"""Threads of a warp: one world a thread. The smallest group, because all wait for the slowest world."""


class PallasPhysics(ColumnPhysics):
    """A backend of columns as one kernel per environment step on a GPU; on other devices it is that backend.

    Derivatives are those of the batched program, through the solution instead of the iterations.
    """

    kernel_dynamics: ClassVar[Dynamics]
    """The dynamics of which every number is an array over worlds: a kernel has no others."""

    def __init__(
        self,
        model: mujoco.MjModel,
        frame_skip: int = 1,
        worlds: int | None = None,
        warps: int = 1,
        platform: str | None = None,
        interpret: bool = False,
    ):
        """Compiles the model; ``warps`` and ``interpret`` (for tests) as in ``kernel_step``.

        ``worlds`` is the number of one program of the kernel; None: one a thread. Both are powers of two.

        The program is built for the ``platform`` "cpu" or "gpu"; None: the one that this process computes on.

        Raises:
            UserError: the sizes are no powers of two, or the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip, platform=platform)
        self.worlds, self.warps, self.interpret = THREADS * warps if worlds is None else worlds, warps, interpret
        for name, size in (("worlds", self.worlds), ("warps", warps)):
            if size < 1 or size & (size - 1):
                raise UserError(f"{name}: a kernel's programs have a power of two of them, such as 32, not {size}")

    @property
    def in_kernel(self) -> bool:
        """Whether a step is one kernel, as on a GPU."""
        return self.interpret or self.on_gpu

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.kind}-pallas" if self.in_kernel else self.kind

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        batched = super()._step
        if not self._runs_in_kernel(ctrl):
            return batched(state, ctrl)
        stepped: PhysicsState = _with_derivative_of(batched, lambda *of_worlds: self._kernel_step(*of_worlds)[0])(
            state, ctrl
        )
        return stepped

    def _runs_in_kernel(self, ctrl: jax.Array) -> bool:
        """Whether there is a world for a kernel, and a GPU."""
        return self.in_kernel and bool(ctrl.shape[0])

    def _kernel_step(
        self, state: PhysicsState, ctrl: jax.Array, keep_evaluation: bool = False
    ) -> tuple[PhysicsState, tuple[jax.Array, ...]]:
        # Pallas takes long to load, and only the kernel needs it.
        from mjxppo.physics.kernel import kernel_step

        model, size = self.model_of(state), (self.worlds, self.warps)
        return kernel_step(
            self.kernel_dynamics, model, self.frame_skip, state, ctrl, *size, self.interpret, keep_evaluation
        )


class PlanarPallasPhysics(PallasPhysics, PlanarPhysics):
    """``PlanarPhysics`` as one kernel."""

    kernel_dynamics = PlanarPhysics.dynamics


class SpatialPallasPhysics(PallasPhysics, SpatialPhysics):
    """``SpatialPhysics`` as one kernel; contact forces are computed from what it leaves."""

    kernel_dynamics = Dynamics(partial(build_problem, together=False), advance_qpos)

    def _step_with_contact_forces(self, state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, Evaluation]:
        batched = super()._step_with_contact_forces
        if not self._runs_in_kernel(ctrl):
            return batched(state, ctrl)

        def of_kernel(state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, Evaluation]:
            moved, (qpos, qvel) = self._kernel_step(state, ctrl, keep_evaluation=True)
            evaluated = replace(state, qpos=qpos, qvel=qvel, qacc_warmstart=moved.qacc_warmstart)
            return moved, Evaluation(qpos, qvel, self._in_blocks(forces_of_block, evaluated, ctrl))

        def forces_of_block(model: SpatialModel, evaluated: PhysicsState, ctrl: jax.Array) -> jax.Array:
            return contact_forces(model, self.model.nbody, *state_columns(evaluated))

        stepped: tuple[PhysicsState, Evaluation] = _with_derivative_of(batched, of_kernel)(state, ctrl)
        return stepped


KERNELS: dict[str, type[PallasPhysics]] = {
    "planar-pallas": PlanarPallasPhysics,
    "spatial-pallas": SpatialPallasPhysics,
}
"""By the names that ``physics.make`` takes; ``auto`` tries them in this order."""


def _with_derivative_of(batched: Callable[..., Any], of_kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``of_kernel``, a function of worlds, with the derivative of the function ``batched``."""
    step = jax.custom_jvp(fold_vmap(of_kernel))

    @step.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        return jax.jvp(batched, primals, tangents)

    return step
