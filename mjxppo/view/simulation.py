"""One world of a task in Gymnasium's C MuJoCo, in which a policy acts step by step, and which can be disturbed."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from mjxppo.config.schema import Config
from mjxppo.envs.foreign.results import MASK
from mjxppo.envs.randomize.changes import changed_fields
from mjxppo.errors import UserError
from mjxppo.physics import modify_model
from mjxppo.policy.evaluate import make_gymnasium_env
from mjxppo.policy.policy import Policy

CHANGES = ("friction", "mass", "gravity", "slope")
"""Quantities of the model that the view changes: factors, and the slope in degrees; names as of ``--perturb``."""
DIRECTIONS = {
    "forward (+x)": (1, 0, 0),
    "backward (-x)": (-1, 0, 0),
    "left (+y)": (0, 1, 0),
    "right (-y)": (0, -1, 0),
    "up (+z)": (0, 0, 1),
    "down (-z)": (0, 0, -1),
}
MAX_DELAY = 20
_PUSH_S = 0.1
_PULL = 25.0
"""Acceleration of the whole robot by a pull, m/s² for each metre that the pointer is away."""
_LONGEST_PULL = 2.0


class Pull(NamedTuple):
    """A spring between a point of the robot and a point of the world, as a mouse pulls it."""

    geom: int
    local: np.ndarray
    """The point in the geom's frame, [3], metres."""
    target: np.ndarray
    """Where it is pulled to in the world, [3], metres."""


class Pose(NamedTuple):
    """Places of the model's G geoms in the world."""

    position: np.ndarray
    """[G, 3], metres."""
    rotation: np.ndarray
    """Unit quaternions (w, x, y, z), [G, 4]."""


class Simulation:
    """A world that is stepped by its owner; not for several threads at once."""

    def __init__(self, policy: Policy, config: Config, seed: int):
        """Makes the task that ``config`` names and begins an episode; its n-th reset (from 0) has seed ``seed + n``.

        Raises:
            UserError: Gymnasium does not have the task, it is no robot in MuJoCo, or the policy does not fit it.
        """
        self._env = make_gymnasium_env(config)
        model = getattr(self._env.unwrapped, "model", None)
        if not isinstance(model, mujoco.MjModel):
            raise UserError(f"view: {config.env} is not simulated by MuJoCo, so it cannot be drawn")
        expected = self._env.observation_space.shape[0]  # make_one makes it a vector
        if policy.obs_size != expected:
            raise UserError(
                f"policy: takes {policy.obs_size} observations, but {config.env} gives {expected}; is it one for it?"
            )
        self.model = model
        self.data: mujoco.MjData = self._env.unwrapped.data
        self.dt = float(self._env.unwrapped.dt)
        self.step_limit = self._env.spec.max_episode_steps if self._env.spec else None
        self.delay = 0
        """Steps by which actions take effect late, 0 to ``MAX_DELAY``."""
        self.pull: Pull | None = None
        self.episodes = -1
        """Episodes begun before this one."""
        self._nominal, self._changes = copy.copy(model), dict.fromkeys(CHANGES, 1.0) | {"slope": 0.0}
        moving = np.flatnonzero(model.body_weldid != 0)
        self.root = int(moving[0]) if moving.size else 0
        """The body that is pushed and followed: the first that moves."""
        self._mass = float(model.body_mass[moving].sum())
        self._policy, self._next_seed = policy, seed
        self._push, self._push_steps = np.zeros(3), 0
        self.reset()

    @property
    def command_ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest command by name; empty for a task without commands.

        A task with commands is an environment with ``command_ranges``, and ``fixed_command``, which it obeys where that
        is not None.
        """
        return getattr(self._env.unwrapped, "command_ranges", {})

    def command(self, numbers: Sequence[float] | None) -> None:
        """Fixes the command, in the order of ``command_ranges``; None: the task draws its own."""
        if self.command_ranges:
            self._env.unwrapped.fixed_command = None if numbers is None else np.array(numbers)

    @property
    def directions(self) -> list[str]:
        """Names of ``DIRECTIONS`` in which the pushed body can move."""
        data, jacobian = mujoco.MjData(self.model), np.zeros((3, self.model.nv))
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_jacBodyCom(self.model, data, jacobian, None, self.root)
        free = np.abs(jacobian).max(axis=1) > 1e-6
        return [name for name, axis in DIRECTIONS.items() if free[np.argmax(np.abs(axis))]]

    @property
    def pushed(self) -> np.ndarray:
        """The force of the push at the root body, [3], newtons; zero between pushes."""
        return self._push if self._push_steps else np.zeros(3)

    def reset(self) -> None:
        """Begins a new episode."""
        self.obs, info = self._env.reset(seed=self._next_seed)
        self._mask = info.get(MASK)
        self._next_seed += 1
        self.episodes += 1
        self.steps, self.episode_return = 0, 0.0
        self.terminated = self.truncated = False
        self._push_steps = 0
        self._start_acting()
        self.action = np.zeros(self._policy.action_size, np.float32)
        self._past = deque([self.action] * (MAX_DELAY + 1), MAX_DELAY + 1)
        self.before = self.now = self._pose()

    def use(self, policy: Policy) -> None:
        """Lets another policy act from the next step on."""
        self._policy = policy
        self._start_acting()

    def change(self, changes: Mapping[str, float]) -> None:
        """Changes the model: values of ``CHANGES``, relative to the model as it was made; others stay.

        Raises:
            UserError: a name is unknown.
        """
        unknown = set(changes) - set(CHANGES)
        if unknown:
            raise UserError(f"view: {min(unknown)!r} is none of {', '.join(CHANGES)}")
        wanted = self._changes | dict(changes)
        if wanted != self._changes:
            self._changes = wanted
            modify_model(self.model, changed_fields(self._nominal, wanted))

    def push(self, direction: str, speed: float) -> None:
        """Pushes the root body for 0.1 s, with the momentum that would give the robot the ``speed`` (m/s)."""
        self._push_steps = max(1, round(_PUSH_S / self.dt))
        self._push = np.array(DIRECTIONS[direction]) * self._mass * speed / (self._push_steps * self.dt)

    def step(self) -> None:
        """One environment step of the policy. After an episode's end it goes on, but its return does not grow."""
        self._past.append(self._act(self.obs[None], **({} if self._mask is None else {"mask": self._mask[None]}))[0])
        self.action = self._past[-1 - self.delay]
        self._apply_forces()
        self.obs, reward, terminated, truncated, info = self._env.step(self._policy.actions.decode(self.action))
        self._mask = info.get(MASK)
        self.steps += 1
        if not (self.terminated or self.truncated):
            self.episode_return += float(reward)
        self.terminated, self.truncated = self.terminated or bool(terminated), self.truncated or bool(truncated)
        self.before, self.now = self.now, self._pose()

    def pose_between(self, weight: float) -> Pose:
        """Places between the last two states, from the one before (0) to the present one (1)."""
        before, now = self.before, self.now
        nearer = np.where((before.rotation * now.rotation).sum(1, keepdims=True) < 0, -1.0, 1.0)
        rotation = (1 - weight) * before.rotation + weight * nearer * now.rotation
        rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
        return Pose((1 - weight) * before.position + weight * now.position, rotation)

    def grabbed_point(self, geom: int, local: np.ndarray) -> np.ndarray:
        """The place in the world, [3], of a point ``local`` [3] of a geom's frame."""
        return self.data.geom_xpos[geom] + self.data.geom_xmat[geom].reshape(3, 3) @ local

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()

    def _start_acting(self) -> None:
        self._act = self._policy.begin(vectors=True)

    def _pose(self) -> Pose:
        rotation = np.zeros((self.model.ngeom, 4))
        for geom in range(self.model.ngeom):
            mujoco.mju_mat2Quat(rotation[geom], self.data.geom_xmat[geom])
        return Pose(self.data.geom_xpos.copy(), rotation)

    def _apply_forces(self) -> None:
        force = self.data.xfrc_applied
        force[:] = 0.0
        if self._push_steps:
            force[self.root, :3] = self._push
            self._push_steps -= 1
        if self.pull is not None:
            point = self.grabbed_point(self.pull.geom, self.pull.local)
            body = int(self.model.geom_bodyid[self.pull.geom])
            pulled = self._mass * _PULL * np.clip(self.pull.target - point, -_LONGEST_PULL, _LONGEST_PULL)
            force[body, :3] += pulled
            force[body, 3:] += np.cross(point - self.data.xipos[body], pulled)
