"""Locomotion: the common part of Gymnasium's planar locomotion tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import mujoco

from mjxppo import physics
from mjxppo.envs.batch import split_each
from mjxppo.envs.task import Array, Task
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState
from mjxppo.physics.messages import without_model_warnings


def gymnasium_model(xml_file: str) -> mujoco.MjModel:
    """Compiles a MuJoCo model: one that comes with the installed ``gymnasium`` package, by name, or any, by path.

    Raises:
        UserError: there is no such file, or MuJoCo refuses it.
    """
    spec = find_spec("gymnasium")
    assert spec is not None and spec.origin is not None, "gymnasium is a dependency of this package"
    asset = Path(spec.origin).parent / "envs" / "mujoco" / "assets" / xml_file
    path = asset if asset.is_file() else Path(xml_file).expanduser()
    if not path.is_file():
        raise UserError(f"env_options.xml_file: there is no file {path}")
    try:
        with without_model_warnings():
            return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise UserError(f"env_options.xml_file: MuJoCo cannot load {path}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True, kw_only=True)
class LocomotionOptions:
    """The options of a locomotion task, under Gymnasium's names; the defaults are Gymnasium's."""

    xml_file: str
    """A model that comes with Gymnasium, or the path of another MJCF file."""
    frame_skip: int
    """MuJoCo steps per environment step."""
    max_episode_steps: int = 1000
    """Time limit, in environment steps."""
    forward_reward_weight: float = 1.0
    """Weight of the forward velocity (m/s)."""
    ctrl_cost_weight: float = 1e-3
    """Weight of the squared action."""
    reset_noise_scale: float = 5e-3
    """Size of the random offsets at a reset."""

    def __post_init__(self) -> None:
        for name in ("frame_skip", "max_episode_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"env_options.{name}: must be at least 1, not {getattr(self, name)}")
        if self.reset_noise_scale < 0:
            raise UserError(f"env_options.reset_noise_scale: must not be negative, is {self.reset_noise_scale}")


class Locomotion(Task):
    """A planar robot whose reward is its velocity along x, less a cost for control.

    Worlds are a ``PhysicsState``. Subclasses set their options, and override the noise, the observation and the health
    rule where they differ.
    """

    Options: ClassVar[type[LocomotionOptions]]
    """The task's options, with its defaults."""

    def __init__(self, options: LocomotionOptions, backend: BackendName = "auto", platform: str | None = None):
        self.options = options
        self.model = gymnasium_model(options.xml_file)
        self.physics = physics.make(self.model, backend, options.frame_skip, platform)
        self.step_duration = self.physics.step_duration
        self.obs_size = self.model.nq - 1 + self.model.nv
        self.action_size = self.model.nu
        self.max_episode_steps = options.max_episode_steps

    def initial(self, keys: Array) -> PhysicsState:
        qpos_keys, qvel_keys = split_each(keys)
        qpos = jnp.asarray(self.model.qpos0) + jax.vmap(self._qpos_noise)(qpos_keys)
        return self.physics.init(qpos, jax.vmap(self._qvel_noise)(qvel_keys))

    def _uniform_noise(self, key: Array, size: int) -> Array:
        scale = self.options.reset_noise_scale
        return jax.random.uniform(key, (size,), minval=-scale, maxval=scale)

    def _qpos_noise(self, key: Array) -> Array:
        """Random offset from ``qpos0`` at a reset, [nq]."""
        return self._uniform_noise(key, self.model.nq)

    def _qvel_noise(self, key: Array) -> Array:
        """Random initial velocity at a reset, [nv]."""
        return self._uniform_noise(key, self.model.nv)

    def observe(self, worlds: PhysicsState) -> Array:
        return jnp.concatenate([worlds.qpos[:, 1:], worlds.qvel], axis=-1)

    def reset_info(self, worlds: PhysicsState) -> dict[str, Array]:
        return {"x_position": worlds.qpos[:, 0]}

    def step_info(self, worlds: PhysicsState, reward_terms: dict[str, Array]) -> dict[str, Array]:
        info = super().step_info(worlds, reward_terms)
        weight = self.options.forward_reward_weight
        return info | {"x_velocity": info["reward_forward"] / weight} if weight else info

    def _health(self, worlds: PhysicsState) -> tuple[dict[str, Array], Array]:
        """Reward terms for being healthy, and whether the episode terminates, [N]; by default neither."""
        return {}, jnp.zeros(worlds.qpos.shape[0], bool)

    def advance(self, worlds: PhysicsState, action: Array) -> tuple[PhysicsState, dict[str, Array], Array]:
        # The dynamics do not depend on x. Stepping from x = 0 keeps the displacement, and with it the reward,
        # exact in float32 however far the robot has run.
        x_before = worlds.qpos[:, :1]
        start = replace(worlds, qpos=jnp.concatenate([jnp.zeros_like(x_before), worlds.qpos[:, 1:]], axis=-1))
        moved = self.physics.step(start, action)
        x_velocity = moved.qpos[:, 0] / self.step_duration
        moved = replace(moved, qpos=jnp.concatenate([x_before + moved.qpos[:, :1], moved.qpos[:, 1:]], axis=-1))
        return moved, *self._reward_and_end(moved, x_velocity, action)

    def _reward_and_end(self, worlds: PhysicsState, x_velocity: Array, action: Array) -> tuple[dict[str, Array], Array]:
        """The reward's terms of a step that led to ``worlds``, and whether the episode terminates, each [N]."""
        terms = {
            "reward_forward": self.options.forward_reward_weight * x_velocity,
            "reward_ctrl": -self.options.ctrl_cost_weight * jnp.square(action).sum(-1),
        }
        health_terms, terminated = self._health(worlds)
        return terms | health_terms, terminated

    def reward_term_names(self, worlds: PhysicsState, action: Array) -> list[str]:
        return list(jax.eval_shape(self._reward_and_end, worlds, worlds.qpos[:, 0], action)[0])
