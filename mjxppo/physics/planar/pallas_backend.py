"""The planar backend whose environment step is one GPU kernel."""

from __future__ import annotations

from typing import Any

import jax
import mujoco

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar.backend import PlanarPhysics
from mjxppo.physics.planar.kernel import WARPS, WORLDS, kernel_step
from mjxppo.physics.worlds import fold_vmap


class PlanarPallasPhysics(PlanarPhysics):
    """``PlanarPhysics`` as one kernel per environment step on a GPU; on other devices it is ``PlanarPhysics``.

    Derivatives are those of the batched program, through the solution instead of the iterations.
    """

    name = "planar-pallas"

    def __init__(
        self,
        model: mujoco.MjModel,
        frame_skip: int = 1,
        worlds: int = WORLDS,
        warps: int = WARPS,
        platform: str | None = None,
        interpret: bool = False,
    ):
        """Compiles the model; ``worlds``, ``warps`` and ``interpret`` (for tests) as in ``kernel_step``.

        The program is built for the ``platform`` "cpu" or "gpu"; None: the one that this process computes on.

        Raises:
            UnsupportedModelError: the model has a feature that would have to be approximated.
        """
        super().__init__(model, frame_skip, platform=platform)
        self.worlds, self.warps, self.interpret = worlds, warps, interpret

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        if not ctrl.shape[0] or not (self.interpret or self.on_gpu):
            return super()._step(state, ctrl)
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
