"""A four-legged robot that walks at commanded velocities, the task "quadruped"."""

from __future__ import annotations

from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.envs import robot
from mjxppo.envs.healthy import Range, check_start, inside
from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot_task import NoisyRobotOptions
from mjxppo.envs.task import Array
from mjxppo.envs.xy_task import XYTask, XYWorlds
from mjxppo.errors import UserError
from mjxppo.physics import BackendName, PhysicsState

COMMANDS = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
"""What is commanded, in the torso's frame: velocity forward and to the left (m/s), and rate of turning left (rad/s)."""


@dataclass(frozen=True, kw_only=True)
class QuadrupedOptions(NoisyRobotOptions):
    """The robot, what it is commanded to do, and the weights of the reward's terms."""

    xml_file: str = "quadruped.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.05
    lin_vel_x_range: Range = (-0.8, 1.2)
    """Commanded velocities forward (m/s)."""
    lin_vel_y_range: Range = (-0.5, 0.5)
    """Commanded velocities to the left (m/s)."""
    ang_vel_z_range: Range = (-1.0, 1.0)
    """Commanded rates of turning left (rad/s)."""
    standing_share: float = 0.1
    """Share of the commands that are zero."""
    command_steps: int = 200
    """Environment steps after which another command is drawn."""
    tracking_sigma: float = 0.25
    """Squared error, (m/s)^2 or (rad/s)^2, at which the reward for tracking falls to 1/e."""
    tracking_lin_vel_weight: float = 1.0
    """Weight of tracking the commanded velocity."""
    tracking_ang_vel_weight: float = 0.5
    """Weight of tracking the commanded rate of turning."""
    lin_vel_z_weight: float = 1.0
    """Weight of the squared velocity along the torso's z (m/s)."""
    ang_vel_xy_weight: float = 0.03
    """Weight of the squared rates of rolling and pitching (rad/s)."""
    orientation_weight: float = 1.0
    """Weight of the squared sine of the torso's tilt."""
    action_rate_weight: float = 0.02
    """Weight of the squared change of the action from one step to the next."""
    pose_weight: float = 0.2
    """Weight of the squared distance of the joints from the pose at a reset (rad)."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy step ends the episode."""
    healthy_z_range: Range = (0.13, 1.0)
    """Height of the torso (m); the bounds are exclusive."""
    max_tilt: float = 1.0
    """Largest healthy angle between the torso's z and the vertical (rad)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for axis in COMMANDS:
            low, high = getattr(self, f"{axis}_range")
            if low > high:
                raise UserError(f"env_options.{axis}_range: its first number must not be above its second, {high:g}")
        if not 0 <= self.standing_share <= 1:
            raise UserError(f"env_options.standing_share: must be from 0 to 1, not {self.standing_share:g}")
        if self.command_steps < 1:
            raise UserError(f"env_options.command_steps: must be at least 1, not {self.command_steps}")
        for field in ("tracking_sigma", "max_tilt"):
            if getattr(self, field) <= 0:
                raise UserError(f"env_options.{field}: must be positive, not {getattr(self, field):g}")

    @property
    def command_ranges(self) -> np.ndarray:
        """Lowest and highest commands, [2, 3]."""
        return np.array([getattr(self, f"{axis}_range") for axis in COMMANDS]).T


@flax.struct.dataclass
class CommandedWorlds(XYWorlds):
    """The state of N worlds, and what their robots are commanded to do."""

    command: Array = flax.struct.field(kw_only=True)
    """The command (``COMMANDS``), [N, 3]."""
    last_action: Array = flax.struct.field(kw_only=True)
    """The action of the last step, [N, action_size]."""
    key: Array = flax.struct.field(kw_only=True)
    """The episode's random key, [N], from which its commands are drawn."""
    time: Array = flax.struct.field(kw_only=True)
    """Steps taken in the episode, [N] int32."""


class Quadruped(XYTask):
    """A robot with a free torso and position servos that walks at commanded velocities.

    Any such robot will do: ``xml_file`` may be a user's. It starts in the file's first keyframe, or at ``qpos0``.

    Observation [12 + 2 joints + actuators]: the direction of gravity, the torso's velocity and rates of turning, all in
    the torso's frame, the command, the joints' positions relative to those at a reset, their velocities, and the last
    action; 48 numbers for 12 joints. Action: -1 and 1 are the ends of each actuator's range. Reward: exp(-e^2 / 0.25)
    for the error of the velocity and half of it for that of the rate of turning, minus costs (``QuadrupedOptions``);
    the terms are those of legged_gym (Rudin et al. 2021, https://arxiv.org/abs/2109.11978, table 2). Terminates when
    the torso is too low, or tilted by more than 1 rad. Truncated after 1000 steps of 0.02 s.
    """

    name = "quadruped"
    gym_id = TASKS[name].gym_id
    Options = QuadrupedOptions
    options: QuadrupedOptions
    root = ("free",)

    def __init__(self, options: QuadrupedOptions, backend: BackendName = "auto", platform: str | None = None):
        super().__init__(options, backend, platform)
        robot.check_ground(self.model)
        self.home = robot.home_of(self.model)
        if options.terminate_when_unhealthy:
            start = float(self.home[2])
            check_start("z", start, 0.0, options.healthy_z_range, "the height of its first body")
        self.obs_size = 12 + (self.model.nq - 7) + (self.model.nv - 6) + self.model.nu

    def initial(self, keys: Array) -> CommandedWorlds:
        start = super().initial(keys)
        count = len(keys)
        return CommandedWorlds(
            start.qpos,
            start.qvel,
            start.qacc_warmstart,
            velocity=jnp.zeros_like(start.qpos[:, :2]),
            command=self._draw_command(keys, jnp.zeros(count, jnp.int32)).astype(start.qpos.dtype),
            last_action=jnp.zeros((count, self.action_size), start.qpos.dtype),
            key=keys,
            time=jnp.zeros(count, jnp.int32),
        )

    def _qpos_noise(self, key: Array) -> Array:
        joints = self._uniform_noise(key, self.model.nq - 7)
        return jnp.asarray(self.home - self.model.qpos0) + jnp.concatenate([jnp.zeros(7, joints.dtype), joints])

    def _draw_command(self, keys: Array, number: Array) -> Array:
        """The commands [N, 3] with the ``number`` [N] of episodes with the random ``keys`` [N]."""
        low, high = jnp.asarray(self.options.command_ranges, jnp.float32)

        def draw(key: Array, number: Array) -> Array:
            # The numbers 0 and 1 are those of the keys that the state at a reset is drawn from.
            *axes, stand = jax.random.uniform(jax.random.fold_in(key, 2 + number), (4,))
            return jnp.where(stand < self.options.standing_share, 0.0, low + (high - low) * jnp.stack(axes))

        return jax.vmap(draw)(keys, number)

    def observe(self, worlds: CommandedWorlds) -> Array:
        up, linear, angular = torso_motion(worlds)
        joints, rates = self._joints(worlds), worlds.qvel[:, 6:]
        return jnp.concatenate([-up, linear, angular, worlds.command, joints, rates, worlds.last_action], axis=-1)

    def _joints(self, worlds: CommandedWorlds) -> Array:
        """The joints' positions relative to those at a reset, [N, nq - 7]."""
        return worlds.qpos[:, 7:] - jnp.asarray(self.home[7:], worlds.qpos.dtype)

    def advance(self, worlds: CommandedWorlds, action: Array) -> tuple[CommandedWorlds, dict[str, Array], Array]:
        moved, terms, terminated = self._move(worlds, action)
        changes = moved.time % self.options.command_steps == 0
        drawn = self._draw_command(moved.key, moved.time // self.options.command_steps)
        command = jnp.where(changes[:, None], drawn.astype(moved.command.dtype), moved.command)
        return replace(moved, command=command), terms, terminated

    def _move(self, worlds: CommandedWorlds, action: Array) -> tuple[CommandedWorlds, dict[str, Array], Array]:
        """``advance`` without the next command."""
        start = self._start_of_step(worlds)
        moved = self.physics.step(start, self.controls(action))
        moved = replace(
            worlds,
            qpos=self._end_of_step(worlds, start, moved),
            qvel=moved.qvel,
            qacc_warmstart=moved.qacc_warmstart,
            velocity=(moved.qpos[:, :2] - start.qpos[:, :2]) / self.step_duration,
            time=worlds.time + 1,
        )
        terms, terminated = self._reward_and_end(moved, action)
        return replace(moved, last_action=action), terms, terminated

    def _reward_and_end(self, worlds: CommandedWorlds, action: Array) -> tuple[dict[str, Array], Array]:
        """The reward's terms of a step by ``action``, and whether the episode terminates, each [N].

        ``worlds`` have moved, and still hold the command and the action before.
        """
        options = self.options
        up, linear, angular = torso_motion(worlds)
        square = lambda x: jnp.square(x).sum(-1)  # noqa: E731
        lin_vel_error = square(worlds.command[:, :2] - linear[:, :2])
        ang_vel_error = jnp.square(worlds.command[:, 2] - angular[:, 2])
        terms = {
            "reward_tracking_lin_vel": options.tracking_lin_vel_weight
            * jnp.exp(-lin_vel_error / options.tracking_sigma),
            "reward_tracking_ang_vel": options.tracking_ang_vel_weight
            * jnp.exp(-ang_vel_error / options.tracking_sigma),
            "reward_lin_vel_z": -options.lin_vel_z_weight * jnp.square(linear[:, 2]),
            "reward_ang_vel_xy": -options.ang_vel_xy_weight * square(angular[:, :2]),
            "reward_orientation": -options.orientation_weight * square(up[:, :2]),
            "reward_action_rate": -options.action_rate_weight * square(action - worlds.last_action),
            "reward_pose": -options.pose_weight * square(self._joints(worlds)),
        }
        healthy = inside(worlds.qpos[:, 2], options.healthy_z_range) & (up[:, 2] > np.cos(options.max_tilt))
        return terms, ~healthy & options.terminate_when_unhealthy

    def reward_term_names(self, worlds: CommandedWorlds, action: Array) -> list[str]:
        return list(jax.eval_shape(self._reward_and_end, worlds, action)[0])

    def reset_info(self, worlds: CommandedWorlds) -> dict[str, Array]:  # type: ignore[override]
        return super().reset_info(worlds) | {f"command_{axis}": worlds.command[:, i] for i, axis in enumerate(COMMANDS)}

    def metrics(self, worlds: CommandedWorlds) -> dict[str, Array]:
        _, linear, angular = torso_motion(worlds)
        error = worlds.command - jnp.concatenate([linear[:, :2], angular[:, 2:]], axis=-1)
        return {
            "velocity_error": jnp.sqrt(jnp.square(error[:, :2]).sum(-1)),
            "turning_error": jnp.abs(error[:, 2]),
        }


def torso_motion(worlds: PhysicsState) -> tuple[Array, Array, Array]:
    """The direction up, the velocity (m/s) and the rates of turning (rad/s), in the free body's frame, each [N, 3].

    A free joint's first three velocities are along the world's axes, the others about the body's.
    """
    quaternion = worlds.qpos[:, 3:7]
    w, *axes = jnp.unstack(quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True), axis=-1)
    vector = jnp.stack(axes, axis=-1)

    def to_body(x: Array) -> Array:
        turned = 2 * jnp.cross(vector, x)  # by the quaternion's inverse: x - w t + v x t with t = 2 v x x
        return x - w[:, None] * turned + jnp.cross(vector, turned)

    up = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0], vector.dtype), vector.shape)
    return to_body(up), to_body(worlds.qvel[:, :3]), worlds.qvel[:, 3:6]
