"""Gymnasium's InvertedPendulum-v5 and InvertedDoublePendulum-v5: a pole, or two, on a cart."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo import physics
from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot_task import NoisyRobotOptions, RobotTask
from mjxppo.envs.task import Array
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState
from mjxppo.physics.limit_force import limit_force


@dataclass(frozen=True, kw_only=True)
class InvertedPendulumOptions(NoisyRobotOptions):
    """Gymnasium's options and defaults for InvertedPendulum-v5."""

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    reset_noise_scale: float = 0.01


class InvertedPendulum(RobotTask):
    """A pole to be balanced on a cart that is pushed along a rail.

    Observation [4]: qpos, qvel. Action [1]: from -1 to 1, for forces of -300 N to 300 N. Reward: 1 for each step with
    the pole up. Terminates when the pole's angle is more than 0.2 rad. Truncated after 1000 steps.
    """

    name = "inverted_pendulum"
    gym_id = TASKS[name].gym_id
    Options = InvertedPendulumOptions

    def __init__(self, options: InvertedPendulumOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        if self.model.nq < 2:
            raise UserError("env_options.xml_file: has one joint; the task needs a cart's and a pole's")
        self.obs_size = self.model.nq + self.model.nv

    def observe(self, worlds: PhysicsState) -> Array:
        return jnp.concatenate([worlds.qpos, worlds.qvel], axis=-1)

    def advance(self, worlds: PhysicsState, action: Array) -> tuple[PhysicsState, dict[str, Array], Array]:
        moved = self.physics.step(worlds, self.controls(action))
        return moved, *self._reward_and_end(moved)

    def _reward_and_end(self, worlds: PhysicsState) -> tuple[dict[str, Array], Array]:
        fallen = jnp.abs(worlds.qpos[:, 1]) > 0.2
        return {"reward_survive": (~fallen).astype(worlds.qpos.dtype)}, fallen

    def reward_term_names(self, worlds: PhysicsState, action: Array) -> list[str]:
        return ["reward_survive"]


@flax.struct.dataclass
class DoublePendulumWorlds(PhysicsState):
    """The state of N worlds, and what Gymnasium's environment reads from ``mjData`` after a step.

    Those numbers are of the last evaluation of the dynamics, the fourth stage of the last Runge-Kutta step, whose
    positions differ a little from those that the step ends in.
    """

    tip: Array | None = None
    """x and z of the upper pole's end (m), [N, 2]."""
    cart_force: Array | None = None
    """The force of the rail's end on the cart (N), [N]."""


@dataclass(frozen=True, kw_only=True)
class InvertedDoublePendulumOptions(NoisyRobotOptions):
    """Gymnasium's options and defaults for InvertedDoublePendulum-v5."""

    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.1
    healthy_reward: float = 10.0
    """Reward for each step that does not end the episode."""


class InvertedDoublePendulum(RobotTask):
    """Two poles, one on the other, to be balanced on a cart that is pushed along a rail.

    Observation [9]: x, sines and cosines of the two angles, the velocities, the force of the rail's end on the cart
    (clipped to +-10, as the velocities). Action [1]: from -1 to 1, for forces of -500 N to 500 N. Reward: 10, less 0.01
    x^2 + (z - 2)^2 for the tip at x and z, less 0.001 and 0.005 times the squared velocities of the angles. Terminates
    when the tip is not higher than 1 m. Truncated after 1000 steps.
    """

    name = "inverted_double_pendulum"
    gym_id = TASKS[name].gym_id
    Options = InvertedDoublePendulumOptions
    options: InvertedDoublePendulumOptions
    obs_size = 9

    def __init__(
        self, options: InvertedDoublePendulumOptions, backend: BackendName = "auto", platform: str | None = None
    ):
        super().__init__(options, backend, platform)
        self._check_model()
        # The last of the steps is taken one stage after the other, with accelerations that Euler's method also gives.
        euler = copy.copy(self.model)
        euler.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
        self._accelerate = physics.make(euler, backend, 1, platform)
        before = options.frame_skip - 1
        self._steps_before = physics.make(self.model, backend, before, platform) if before else None

    def _check_model(self) -> None:
        """Raises UserError unless the model has the joints of Gymnasium's and starts away from the rail's ends."""
        field, model = "env_options.xml_file", self.model
        if (model.nq, model.nbody) != (3, 4) or not model.nsite or model.site_bodyid[0] != 3 or np.any(model.qpos0):
            raise UserError(f"{field}: must have a cart, two poles, and a first site at the upper one, its tip")
        if model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4 or np.any(model.jnt_pos):
            raise UserError(f"{field}: the integrator must be RK4, and the joints at their bodies' origins")
        data = mujoco.MjData(model)
        data.qpos[:] = (0.2, 0.5, -0.9)
        mujoco.mj_kinematics(model, data)
        tip = np.asarray(self._tip(jnp.asarray(data.qpos[None], jnp.float32), None))[0]
        if np.abs(tip - data.site_xpos[0, [0, 2]]).max() > 1e-5:
            raise UserError(f"{field}: the cart must slide along x, and the poles turn about y")
        if model.jnt_limited[0] and self.options.reset_noise_scale >= np.abs(model.jnt_range[0]).min() - 0.1:
            raise UserError("env_options.reset_noise_scale: must leave the cart away from the rail's ends at a reset")

    def _tip(self, qpos: Array, body_pos: Array | None) -> Array:
        """X and z of the tip, [N, 2], for positions [N, 3]; ``body_pos`` [N, 4, 3] where worlds differ in it."""
        model = self.model
        offsets = jnp.asarray(model.body_pos, qpos.dtype)[None] if body_pos is None else body_pos
        cart = jnp.stack([offsets[:, 1, 0] + qpos[:, 0], offsets[:, 1, 2] + 0 * qpos[:, 0]], axis=-1)
        first = offsets[:, 2, 0::2] + jnp.zeros_like(cart)
        site = jnp.asarray(model.site_pos[0, 0::2], qpos.dtype)
        return cart + first + _turned(offsets[:, 3, 0::2], qpos[:, 1]) + _turned(site[None], qpos[:, 1] + qpos[:, 2])

    def initial(self, keys: Array) -> DoublePendulumWorlds:
        start = super().initial(keys)
        tip, none = self._tip(start.qpos, None), jnp.zeros_like(start.qpos[:, 0])
        return DoublePendulumWorlds(start.qpos, start.qvel, start.qacc_warmstart, None, tip, none)

    def _qvel_noise(self, key: Array) -> Array:
        return self.options.reset_noise_scale * jax.random.normal(key, (self.model.nv,))

    def observe(self, worlds: DoublePendulumWorlds) -> Array:
        angles, force = worlds.qpos[:, 1:], jnp.clip(worlds.cart_force, -10, 10)[:, None]
        seen = worlds.qpos[:, :1], jnp.sin(angles), jnp.cos(angles), jnp.clip(worlds.qvel, -10, 10), force
        return jnp.concatenate(seen, axis=-1)

    def advance(self, worlds: PhysicsState, action: Array) -> tuple[DoublePendulumWorlds, dict[str, Array], Array]:
        ctrl = self.controls(action)
        state = PhysicsState(worlds.qpos, worlds.qvel, worlds.qacc_warmstart, worlds.parameters)
        if self._steps_before is not None:
            state = self._steps_before.step(state, ctrl)
        moved = self._last_step(state, ctrl)
        return moved, *self._reward_and_end(moved)

    def _last_step(self, state: PhysicsState, ctrl: Array) -> DoublePendulumWorlds:
        """One Runge-Kutta step (mj_RungeKutta), and what its last stage leaves in ``mjData``."""
        h = self.model.opt.timestep
        stage, velocity, acceleration = state, jnp.zeros_like(state.qvel), jnp.zeros_like(state.qvel)
        rates = []
        for share in (0.0, 0.5 * h, 0.5 * h, h):
            qpos, qvel = state.qpos + share * velocity, state.qvel + share * acceleration
            stage = replace(state, qpos=qpos, qvel=qvel, qacc_warmstart=stage.qacc_warmstart)
            stage = replace(stage, qacc_warmstart=self._accelerate.step(stage, ctrl).qacc_warmstart)
            velocity, acceleration = stage.qvel, stage.qacc_warmstart
            rates.append((velocity, acceleration))
        mean_velocity, mean_acceleration = (
            (one + 2 * two + 2 * three + four) / 6 for one, two, three, four in zip(*rates, strict=True)
        )
        return DoublePendulumWorlds(
            qpos=state.qpos + h * mean_velocity,
            qvel=state.qvel + h * mean_acceleration,
            qacc_warmstart=acceleration,
            parameters=state.parameters,
            tip=self._tip(stage.qpos, (state.parameters or {}).get("body_pos")),
            cart_force=limit_force(self.model, 0, stage, acceleration),
        )

    def _reward_and_end(self, worlds: DoublePendulumWorlds) -> tuple[dict[str, Array], Array]:
        assert worlds.tip is not None
        x, z = worlds.tip.T
        fallen = z <= 1
        lower, upper = jnp.square(worlds.qvel[:, 1:3]).T
        return {
            "reward_survive": self.options.healthy_reward * (~fallen).astype(x.dtype),
            "distance_penalty": -(0.01 * jnp.square(x) + jnp.square(z - 2)),
            "velocity_penalty": -(1e-3 * lower + 5e-3 * upper),
        }, fallen

    def reward_term_names(self, worlds: DoublePendulumWorlds, action: Array) -> list[str]:
        return ["reward_survive", "distance_penalty", "velocity_penalty"]


def _turned(offset: Array, angle: Array) -> Array:
    """Offsets in x and z [N or 1, 2] after a turn about y by the angles [N], [N, 2]."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], axis=-1)
