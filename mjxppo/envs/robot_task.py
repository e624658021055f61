"""RobotTask: the common part of Gymnasium's MuJoCo tasks, a model simulated by this package's physics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from mjxppo import physics
from mjxppo.envs import robot
from mjxppo.envs.batch import split_each
from mjxppo.envs.task import NO_LIMIT, Array, Task
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState
from mjxppo.physics.errors import UnsupportedModelError
from mjxppo.physics.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class RobotOptions:
    """The options of a task with a MuJoCo model, under Gymnasium's names; the defaults are Gymnasium's."""

    xml_file: str
    """A model that comes with this package or Gymnasium, or the path of another MJCF file, see ``robot.model_file``."""
    frame_skip: int
    """MuJoCo steps per environment step."""
    max_episode_steps: int = 1000
    """Time limit, in environment steps."""

    def __post_init__(self) -> None:
        for name in ("frame_skip", "max_episode_steps"):
            if not 1 <= getattr(self, name) <= NO_LIMIT:
                raise UserError(f"env_options.{name}: must be from 1 to {NO_LIMIT}, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class NoisyRobotOptions(RobotOptions):
    """Those of a robot whose noise at a reset has one size."""

    reset_noise_scale: float = 5e-3
    """Size of the random offsets at a reset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset_noise_scale < 0:
            raise UserError(f"env_options.reset_noise_scale: must not be negative, is {self.reset_noise_scale}")


class RobotTask(Task):
    """A robot. Worlds are a ``PhysicsState``; subclasses say what is observed and rewarded.

    Without ``reset_noise_scale`` among their options they also override the noise at a reset.
    """

    Options: ClassVar[type[RobotOptions]]
    """The task's options, with its defaults."""
    root: ClassVar[tuple[str, ...]] = ("x",)
    """What the robot's first joints have to be, see ``robot.check_root``."""

    def __init__(self, options: RobotOptions, backend: BackendName = "auto", platform: str | None = None):
        self.options = options = replace(options, xml_file=robot.model_file(options.xml_file))
        self.model = robot.robot_model(options.xml_file)
        robot.check_root(self.model, self.root)
        robot.check_actuators(self.model)
        self._controls = robot.control_range(self.model)
        with self._naming_the_cause(backend):
            self.physics = physics.make(self.model, backend, options.frame_skip, platform)
        self.step_duration = self.physics.step_duration
        self.action_size = self.model.nu
        self.max_episode_steps = options.max_episode_steps

    @contextlib.contextmanager
    def _naming_the_cause(self, backend: BackendName) -> Iterator[None]:
        """Puts the file, or the backend that was asked for, before a refusal of the model."""
        try:
            yield
        except UnsupportedModelError as error:
            cause = f"env_options.xml_file: {self.options.xml_file}" if backend == "auto" else "physics.backend"
            raise UserError(f"{cause}: {error}") from error

    def initial(self, keys: Array) -> PhysicsState:
        qpos_keys, qvel_keys = split_each(keys)
        qpos = jnp.asarray(self.model.qpos0) + jax.vmap(self._qpos_noise)(qpos_keys)
        return self.physics.init(qpos, jax.vmap(self._qvel_noise)(qvel_keys))

    def at_start(self, worlds: PhysicsState, parameters: Parameters | None) -> PhysicsState:
        """Worlds at the start of an episode in which robots have ``parameters`` of their own.

        For tasks whose worlds hold more than positions and velocities; by default unchanged.
        """
        return worlds

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        return self.physics.differentiable

    def _uniform_noise(self, key: Array, size: int) -> Array:
        assert isinstance(self.options, NoisyRobotOptions)
        scale = self.options.reset_noise_scale
        return jax.random.uniform(key, (size,), minval=-scale, maxval=scale)

    def _qpos_noise(self, key: Array) -> Array:
        """Random offset from ``qpos0`` at a reset, [nq]."""
        return self._uniform_noise(key, self.model.nq)

    def _qvel_noise(self, key: Array) -> Array:
        """Random initial velocity at a reset, [nv]."""
        return self._uniform_noise(key, self.model.nv)

    def controls(self, action: Array) -> Array:
        """The actuators' controls, [N, nu], for actions whose -1 and 1 stand for the ends of each actuator's range."""
        if self._controls is None:
            return action
        low, high = self._controls
        return low + (action + 1) * (0.5 * (high - low))
