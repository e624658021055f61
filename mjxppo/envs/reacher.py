"""Gymnasium's Reacher-v5."""

from __future__ import annotations

from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot_task import RobotOptions, RobotTask
from mjxppo.envs.task import Array
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState

TARGET_RADIUS = 0.2
"""Targets are drawn from a disc of this radius (m)."""


@flax.struct.dataclass
class ReacherWorlds(PhysicsState):
    """The state of N worlds, and where the fingertip is seen."""

    seen: Array = flax.struct.field(kw_only=True)
    """Positions of the last evaluation of the dynamics, to which ``xpos`` belongs, [N, 4]."""


@dataclass(frozen=True, kw_only=True)
class ReacherOptions(RobotOptions):
    """Gymnasium's options and defaults for Reacher-v5, whose noise at a reset is fixed."""

    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    max_episode_steps: int = 50
    reward_dist_weight: float = 1.0
    """Weight of the distance from fingertip to target (m)."""
    reward_control_weight: float = 1.0
    """Weight of the squared action."""


class Reacher(RobotTask):
    """An arm of two links whose tip is to reach a target.

    Observation [10]: cosines and sines of the two angles, x and y of the target, the angles' velocities, x and y from
    target to fingertip. Action [2]: motor controls. Reward: minus the distance to the target minus the squared action.
    Never terminates; truncated after 50 steps.
    """

    name = "reacher"
    gym_id = TASKS[name].gym_id
    Options = ReacherOptions
    options: ReacherOptions
    root = ()
    obs_size = 10

    def __init__(self, options: ReacherOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        self._check_model()
        self.physics.check_contact_forces()

    def _check_model(self) -> None:
        """Raises UserError unless the model has the joints and bodies of Gymnasium's."""
        field, model = "env_options.xml_file", self.model
        bodies = ("fingertip", "target")
        if (
            model.nq != 4
            or model.nv != 4
            or any(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) < 0 for name in bodies)
        ):
            raise UserError(f"{field}: must have two hinges, then two slides, and the bodies fingertip and target")
        self._tip, self._target = (model.body(name).id for name in bodies)
        data, positions = mujoco.MjData(model), np.random.default_rng(0).uniform(-0.3, 0.3, (4, model.nq))
        apart = np.zeros((4, 3))
        for row, qpos in zip(apart, positions, strict=True):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            row[:] = data.xpos[self._tip] - data.xpos[self._target]
        found = jnp.stack(self._to_fingertip(jnp.asarray(positions, jnp.float32), None), axis=-1)
        if np.abs(np.asarray(found) - apart).max() > 1e-5:
            raise UserError(
                f"{field}: the arm's two hinges must turn about z, and the target's slides go along x and y"
            )

    def _to_fingertip(self, qpos: Array, body_pos: Array | None) -> tuple[Array, Array, Array]:
        """X, y and z from target to fingertip, each [N], for positions [N, 4].

        ``body_pos`` [N, nbody, 3] where worlds differ in it.
        """
        offsets = jnp.asarray(self.model.body_pos, qpos.dtype)[None] if body_pos is None else body_pos
        first, second, third, fourth = qpos.T
        middle, tip = self.model.body_parentid[self._tip], self._tip
        base = self.model.body_parentid[middle]
        x, y = _turned(offsets[:, middle], first)
        end_x, end_y = _turned(offsets[:, tip], first + second)
        target, start = offsets[:, self._target], self.model.qpos0[2:]
        return (
            offsets[:, base, 0] + x + end_x - (target[:, 0] + third - float(start[0])),
            offsets[:, base, 1] + y + end_y - (target[:, 1] + fourth - float(start[1])),
            offsets[:, base, 2] + offsets[:, middle, 2] + offsets[:, tip, 2] - target[:, 2] + jnp.zeros_like(first),
        )

    def _of(self, worlds: ReacherWorlds) -> tuple[Array, Array, Array]:
        """``_to_fingertip`` as Gymnasium's environment sees it."""
        return self._to_fingertip(worlds.seen, (worlds.parameters or {}).get("body_pos"))

    def initial(self, keys: Array) -> ReacherWorlds:
        start = super().initial(keys)
        return ReacherWorlds(start.qpos, start.qvel, start.qacc_warmstart, seen=start.qpos)

    def _qpos_noise(self, key: Array) -> Array:
        arm, target = jax.random.split(key)
        radius, angle = jax.random.uniform(target, (2,))
        # The square root makes all places of the disc equally likely.
        radius, angle = TARGET_RADIUS * jnp.sqrt(radius), 2 * jnp.pi * angle
        place = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        offset = place - jnp.asarray(self.model.qpos0[2:], place.dtype)
        return jnp.concatenate([jax.random.uniform(arm, (2,), minval=-0.1, maxval=0.1), offset])

    def _qvel_noise(self, key: Array) -> Array:
        return jnp.concatenate([jax.random.uniform(key, (2,), minval=-0.005, maxval=0.005), jnp.zeros(2)])

    def observe(self, worlds: ReacherWorlds) -> Array:
        angles, target = worlds.qpos[:, :2], worlds.qpos[:, 2:]
        x, y, _ = self._of(worlds)
        seen = jnp.cos(angles), jnp.sin(angles), target, worlds.qvel[:, :2], jnp.stack([x, y], axis=-1)
        return jnp.concatenate(seen, axis=-1)

    def advance(self, worlds: ReacherWorlds, action: Array) -> tuple[ReacherWorlds, dict[str, Array], Array]:
        ctrl = self.controls(action)
        start = PhysicsState(worlds.qpos, worlds.qvel, worlds.qacc_warmstart, worlds.parameters)
        moved, last = self.physics.step_with_contact_forces(start, ctrl)
        after = ReacherWorlds(moved.qpos, moved.qvel, moved.qacc_warmstart, moved.parameters, seen=last.qpos)
        return after, self._rewards(after, ctrl), jnp.zeros(len(ctrl), bool)

    def _rewards(self, worlds: ReacherWorlds, ctrl: Array) -> dict[str, Array]:
        """The reward's terms of a step that led to ``worlds``, each [N]."""
        distance = jnp.sqrt(sum(jnp.square(component) for component in self._of(worlds)))
        return {
            "reward_dist": -self.options.reward_dist_weight * distance,
            "reward_ctrl": -self.options.reward_control_weight * jnp.square(ctrl).sum(-1),
        }

    def reward_term_names(self, worlds: ReacherWorlds, action: Array) -> list[str]:
        return ["reward_dist", "reward_ctrl"]


def _turned(offset: Array, angle: Array) -> tuple[Array, Array]:
    """X and y of offsets [N or 1, 3] after a turn about z by the angles [N]."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * offset[:, 0] - sin * offset[:, 1], sin * offset[:, 0] + cos * offset[:, 1]
