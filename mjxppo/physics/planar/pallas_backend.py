"""The planar backend whose environment step is one GPU kernel."""

from __future__ import annotations

from typing import Any

import jax
import mujoco

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar.backend import PlanarPhysics
from mjxppo.physics.worlds import fold_vmap

THREADS = 32
"""Threads of a warp: one world a thread. The smallest group, because all wait for the slowest world."""


class PlanarPallasPhysics(PlanarPhysics):
    """``PlanarPhysics`` as one kernel per environment step on a GPU; on other devices it is ``PlanarPhysics``.

    Derivatives are those of the batched program, through the solution instead of the iterations.
    """

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

        ``worlds`` is the number of one program of the kernel; None: one a thread.

        The program is built for the ``platform`` "cpu" or "gpu"; None: the one that this process computes on.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip, platform=platform)
        self.worlds, self.warps, self.interpret = worlds or THREADS * warps, warps, interpret

    @property
    def in_kernel(self) -> bool:
        """Whether a step is one kernel, as on a GPU."""
        return self.interpret or self.on_gpu

    @property
    def name(self) -> str:  # type: ignore[override]
        """The backend that computes, as ``physics.make`` takes it."""
        return "planar-pallas" if self.in_kernel else "planar"

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        if not ctrl.shape[0] or not self.in_kernel:
            return super()._step(state, ctrl)
        # Pallas takes long to load, and only the kernel needs it.
        from mjxppo.physics.planar.kernel import kernel_step

        batched = super()._step

        def one_kernel(state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
            return kernel_step(
                self.model_of(state), self.frame_skip, state, ctrl, self.worlds, self.warps, self.interpret
            )

        step = jax.custom_jvp(fold_vmap(one_kernel))

        @step.defjvp
        def derivative(primals: Any, tangents: Any) -> Any:
            return jax.jvp(batched, primals, tangents)

        return step(state, ctrl)
