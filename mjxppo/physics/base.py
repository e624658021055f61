"""The state that physics carries and the interface that every backend implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
from jax.typing import ArrayLike

from mjxppo.errors import UserError
from mjxppo.physics.parameters import Parameters, checked_parameters

Array = jax.Array

_SOLVER_SETTINGS = ("solver", "iterations", "tolerance", "ls_iterations", "ls_tolerance")


@flax.struct.dataclass
class PhysicsState:
    """The state of N worlds between two steps.

    Everything else in ``mjData`` is recomputed from it. The warm start is part of the state because the
    constraint solver starts from it, so that dropping it would change the numbers.
    """

    qpos: Array
    """Generalised positions, [N, nq]."""
    qvel: Array
    """Generalised velocities, [N, nv]."""
    qacc_warmstart: Array
    """Accelerations of the last solve, the next solve's starting point, [N, nv]."""
    parameters: Parameters | None = None
    """Each world's own values of model fields, [N, *shape of the field]; None: all worlds are the model.

    A step does not change them. They include the fields that ``mj_setConst`` derives, see ``physics.set_const``.
    """


@flax.struct.dataclass
class Evaluation:
    """What ``mjData`` of N worlds holds after ``mj_step`` and ``mj_rnePostConstraint``, as in Gymnasium's environments.

    These numbers are of the last evaluation of the dynamics, whose state is not the one that the step ends in: of the
    start of the last Euler step, or of the fourth stage of the last Runge-Kutta step.
    """

    qpos: Array
    """Positions of that evaluation, [N, nq], to which ``xpos`` belongs."""
    qvel: Array
    """Velocities of that evaluation, [N, nv]."""
    cfrc_ext: Array
    """Contact force on each body, [N, nbody, 6]: the moment about the centre of mass of its tree, then the force."""


class Physics(ABC):
    """Steps N independent worlds of one MuJoCo model.

    A backend implements ``_step``. Its result for one world must not depend, by a bit, on the other worlds in
    the batch, nor on the batch's size.
    """

    name: str
    """The backend's name, as ``physics.make`` takes it."""
    not_planar: str | None = None
    """Why ``auto`` has not taken the planar backend, nor spatial, which are faster; None where it was not asked."""
    follows_solver_settings: bool = False
    """Whether the constraint solver stops where the model says; otherwise it runs until it has converged."""
    differentiable: bool = False
    """Whether a step has derivatives, by ``jax.grad`` as well."""
    takes_parameters: bool = True
    """Whether worlds may have parameters of their own."""

    def __init__(self, model: mujoco.MjModel, frame_skip: int):
        self.model = model
        self.frame_skip = frame_skip

    @property
    def step_duration(self) -> float:
        """Simulated seconds per ``step``: the model's timestep times ``frame_skip``."""
        return float(self.model.opt.timestep) * self.frame_skip

    def settings_not_followed(self) -> list[str]:
        """The model's settings of the constraint solver that are not MuJoCo's defaults, and have no effect here."""
        if self.follows_solver_settings:
            return []
        default, own = mujoco.MjSpec().option, self.model.opt
        changed = {
            name: getattr(own, name) for name in _SOLVER_SETTINGS if getattr(own, name) != getattr(default, name)
        }
        if "solver" in changed:
            changed["solver"] = mujoco.mjtSolver(own.solver).name.removeprefix("mjSOL_")
        return [f"{name}={value}" for name, value in changed.items()]

    def init(self, qpos: ArrayLike, qvel: ArrayLike, parameters: Mapping[str, ArrayLike] | None = None) -> PhysicsState:
        """The state of N worlds with positions [N, nq], velocities [N, nv], and a warm start of zeros.

        ``parameters`` are the model fields in which these worlds differ from the model, by MuJoCo's names
        (``physics.parameters.FIELDS``), each [N, *shape of the field].

        Raises:
            UserError: a field that cannot differ between worlds.
            ValueError: an array of the wrong shape.
        """
        qpos, qvel = jnp.asarray(qpos), jnp.asarray(qvel)
        if qpos.ndim != 2 or qpos.shape[1] != self.model.nq:
            raise ValueError(f"qpos must be [N, {self.model.nq}], not {list(qpos.shape)}")
        if qvel.shape != (qpos.shape[0], self.model.nv):
            raise ValueError(f"qvel must be [{qpos.shape[0]}, {self.model.nv}], not {list(qvel.shape)}")
        own = None if parameters is None else checked_parameters(self.model, parameters, qpos.shape[0])
        return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=jnp.zeros_like(qvel), parameters=own)

    def step(self, state: PhysicsState, ctrl: ArrayLike) -> PhysicsState:
        """Advances every world by ``frame_skip`` MuJoCo steps under constant controls.

        Pure; may be used under jit, vmap, scan, shard_map and grad. ``ctrl`` [N, nu] is clipped to ``ctrlrange`` where
        the model limits it.
        """
        # Reduced-precision matrix products (TF32, bf16) inside the dynamics break training.
        with jax.default_matmul_precision("highest"):
            moved = self._step(state, self._checked(ctrl, state))
        return replace(moved, parameters=state.parameters)

    def step_with_contact_forces(self, state: PhysicsState, ctrl: ArrayLike) -> tuple[PhysicsState, Evaluation]:
        """``step``, and the contact forces that MuJoCo computes in its last evaluation of the dynamics.

        Raises:
            UserError: as ``check_contact_forces``.
        """
        self.check_contact_forces()
        with jax.default_matmul_precision("highest"):
            moved, evaluation = self._step_with_contact_forces(state, self._checked(ctrl, state))
        return replace(moved, parameters=state.parameters), evaluation

    def check_contact_forces(self) -> None:
        """Raises UserError where the backend does not compute contact forces, or not those of this model."""
        raise UserError(f"physics.backend: {self.name} computes no contact forces; use spatial or mjx")

    def _checked(self, ctrl: ArrayLike, state: PhysicsState) -> Array:
        """Controls as an array; raises ValueError where they have another shape than [N, nu]."""
        ctrl = jnp.asarray(ctrl, state.qpos.dtype)
        if ctrl.shape != (state.qpos.shape[0], self.model.nu):
            raise ValueError(f"ctrl must be [{state.qpos.shape[0]}, {self.model.nu}], not {list(ctrl.shape)}")
        return ctrl

    @abstractmethod
    def _step(self, state: PhysicsState, ctrl: Array) -> PhysicsState:
        """``step`` for arrays of checked shapes. The result's parameters are ignored."""

    def _step_with_contact_forces(self, state: PhysicsState, ctrl: Array) -> tuple[PhysicsState, Evaluation]:
        """``step_with_contact_forces`` for arrays of checked shapes, after ``check_contact_forces``."""
        raise NotImplementedError
