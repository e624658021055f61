"""QuadrupedEnv: the task "quadruped" with one world in C MuJoCo, for Gymnasium.

Policies are evaluated and filmed in it. It shares the options with the task, and no code of its steps.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from mjxppo.config.values import options_of_type
from mjxppo.envs.quadruped import COMMANDS, QuadrupedOptions
from mjxppo.envs.robot import home_of, model_file, path_of

_CAMERA = {"trackbodyid": 1, "distance": 2.0, "elevation": -20.0, "azimuth": 60.0}


class QuadrupedEnv(MujocoEnv):
    """A four-legged robot that walks at commanded velocities; see ``mjxppo.envs.quadruped.Quadruped``."""

    metadata: dict[str, Any] = {  # noqa: RUF012 (as in Gymnasium)
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]
    }

    def __init__(self, **options: Any):
        """Takes ``QuadrupedOptions`` by name, and the arguments of ``MujocoEnv`` that concern rendering."""
        own = {field.name for field in fields(QuadrupedOptions)} & set(options)
        self.options = options_of_type(QuadrupedOptions, {name: options.pop(name) for name in own}, "env_options")
        path = str(path_of(model_file(self.options.xml_file)))
        camera = {"default_camera_config": _CAMERA} | options
        super().__init__(path, self.options.frame_skip, observation_space=None, **camera)
        self.metadata = self.metadata | {"render_fps": round(1 / self.dt)}
        self._home = home_of(self.model)
        size = 12 + (self.model.nq - 7) + (self.model.nv - 6) + self.model.nu
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float64)
        self.fixed_command: np.ndarray | None = None
        """A command [3] (``COMMANDS``) that stays, in place of those that are drawn; None: they are drawn."""
        self._start_episode()

    @property
    def command(self) -> np.ndarray:
        """What the robot is commanded to do at present (``COMMANDS``), [3]."""
        return self._drawn_command if self.fixed_command is None else np.asarray(self.fixed_command, np.float64)

    @property
    def command_ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest command by name, in the order of ``command``; the names are for people."""
        names = ("Forward (m/s)", "Left (m/s)", "Turn left (rad/s)")
        return {
            name: (float(low), float(high))
            for name, (low, high) in zip(names, self.options.command_ranges.T, strict=True)
        }

    def reset_model(self) -> np.ndarray:
        scale, random = self.options.reset_noise_scale, self.np_random
        joints = random.uniform(-scale, scale, self.model.nq - 7)
        velocities = random.uniform(-scale, scale, self.model.nv)
        self.set_state(self._home + np.concatenate([np.zeros(7), joints]), velocities)
        self._start_episode()
        return self._observation()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        start = self.data.qpos[:2].copy()
        self.do_simulation(action, self.frame_skip)
        low, high = self.model.actuator_ctrlrange.T
        in_unit_range = 2 * (np.asarray(action, np.float64) - low) / (high - low) - 1
        terms, terminated = self._rewards(in_unit_range)
        self._last_action = in_unit_range
        self._time += 1
        if self._time % self.options.command_steps == 0:
            self._drawn_command = self._draw_command()
        x_velocity, y_velocity = (self.data.qpos[:2] - start) / self.dt
        info = self._get_reset_info() | terms | {"x_velocity": x_velocity, "y_velocity": y_velocity}
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(sum(terms.values())), terminated, False, info

    def _start_episode(self) -> None:
        self._time, self._last_action, self._drawn_command = 0, np.zeros(self.model.nu), self._draw_command()

    def _draw_command(self) -> np.ndarray:
        low, high = self.options.command_ranges
        stands = self.np_random.uniform() < self.options.standing_share
        drawn: np.ndarray = self.np_random.uniform(low, high)
        return np.zeros(3) if stands else drawn

    def _get_reset_info(self) -> dict[str, Any]:
        x, y = (float(value) for value in self.data.qpos[:2])
        place = {"x_position": x, "y_position": y, "distance_from_origin": float(np.hypot(x, y))}
        return place | {f"command_{axis}": float(value) for axis, value in zip(COMMANDS, self.command, strict=True)}

    def _torso(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The direction up, the velocity (m/s) and the rates of turning (rad/s), in the torso's frame, each [3]."""
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[3:7] / np.linalg.norm(self.data.qpos[3:7]))
        to_body = rotation.reshape(3, 3).T
        return to_body[:, 2], to_body @ self.data.qvel[:3], self.data.qvel[3:6]

    def _observation(self) -> np.ndarray:
        up, linear, angular = self._torso()
        joints = self.data.qpos[7:] - self._home[7:]
        return np.concatenate([-up, linear, angular, self.command, joints, self.data.qvel[6:], self._last_action])

    def _rewards(self, action: np.ndarray) -> tuple[dict[str, float], bool]:
        """The reward's terms of a step by ``action`` in [-1, 1], and whether the episode terminates."""
        options = self.options
        up, linear, angular = self._torso()
        lin_vel_error = float(np.sum((self.command[:2] - linear[:2]) ** 2))
        ang_vel_error = float((self.command[2] - angular[2]) ** 2)
        terms = {
            "tracking_lin_vel": options.tracking_lin_vel_weight * np.exp(-lin_vel_error / options.tracking_sigma),
            "tracking_ang_vel": options.tracking_ang_vel_weight * np.exp(-ang_vel_error / options.tracking_sigma),
            "lin_vel_z": -options.lin_vel_z_weight * linear[2] ** 2,
            "ang_vel_xy": -options.ang_vel_xy_weight * np.sum(angular[:2] ** 2),
            "orientation": -options.orientation_weight * np.sum(up[:2] ** 2),
            "action_rate": -options.action_rate_weight * np.sum((action - self._last_action) ** 2),
            "pose": -options.pose_weight * np.sum((self.data.qpos[7:] - self._home[7:]) ** 2),
        }
        low, high = options.healthy_z_range
        upright = np.arccos(np.clip(up[2], -1, 1)) < options.max_tilt
        healthy = low < self.data.qpos[2] < high and upright
        return {f"reward_{name}": float(value) for name, value in terms.items()}, bool(
            options.terminate_when_unhealthy and not healthy
        )
