"""The record of one episode of a policy in Gymnasium's own C MuJoCo environment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np

from mjxppo.envs.actions import first_of
from mjxppo.errors import UserError
from mjxppo.policy.policy import ActFunction, begin_episode


@dataclass(frozen=True)
class Trajectory:
    """States, rewards and ending of one episode of T steps."""

    gym_id: str
    """The environment's name in Gymnasium without a namespace, such as ``Hopper-v5``."""
    model: mujoco.MjModel
    """The environment's model (a copy)."""
    dt: float
    """Simulated seconds per step."""
    qpos: np.ndarray
    """Generalised positions, [T + 1, nq]."""
    reward: np.ndarray
    """Reward of each step, [T]."""
    returns: np.ndarray
    """Sum of the rewards before each state, [T + 1]; 0 for the first."""
    terminated: bool
    """The episode ended because of its state (a fall)."""
    truncated: bool
    """The episode ended at its time limit. With neither flag, the recording stopped before the episode's end."""
    step_limit: int | None
    """The environment's time limit in steps."""

    @property
    def length(self) -> int:
        """Steps taken, T."""
        return len(self.reward)

    @property
    def duration(self) -> float:
        """Simulated seconds."""
        return self.length * self.dt


def record_episode(
    policy: ActFunction,
    gym_id: str,
    seed: int,
    max_steps: int | None = None,
    gym_kwargs: Mapping[str, Any] | None = None,
) -> Trajectory:
    """Runs ``policy`` for one episode of ``gymnasium.make(gym_id, **gym_kwargs)``, for at most ``max_steps`` steps.

    ``policy`` is called with one observation, [1, obs_size] NumPy; ``seed`` is that of the environment's reset.

    Raises:
        UserError: the environment does not exist, does not use MuJoCo, or does not fit the policy.
    """
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps is {max_steps}, but at least one step is needed")
    from mjxppo.envs.foreign.adapted import make_one  # imports JAX, which the OpenGL probe's process does not need

    env = make_one(gym_id, gym_kwargs or {})
    try:
        return _record(policy, env, gym_id, seed, max_steps)
    finally:
        env.close()


def _check_action(action: np.ndarray, env: gymnasium.Env, gym_id: str, step: int) -> None:
    """Raises UserError where an action is not one of the environment's."""
    if action.shape != env.action_space.shape:
        raise UserError(
            f"the policy's actions are {[1, *action.shape]}, but {gym_id} takes "
            f"{[1, *(env.action_space.shape or ())]}: is the policy one for this task?"
        )
    if not np.isfinite(action).all():
        raise UserError(f"the policy returned a non-finite action at step {step} of {gym_id}")


def _record(policy: ActFunction, env: gymnasium.Env, gym_id: str, seed: int, max_steps: int | None) -> Trajectory:
    inner: Any = env.unwrapped
    if not isinstance(getattr(inner, "model", None), mujoco.MjModel):
        raise UserError(f"{gym_id} is not a MuJoCo environment, so it cannot be drawn")
    obs, info = env.reset(seed=seed)
    act = begin_episode(policy)
    qpos = [inner.data.qpos.copy()]
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated) and len(rewards) != max_steps:
        masked = {"mask": info["action_mask"][None]} if "action_mask" in info else {}
        action = first_of(act(np.asarray(obs)[None], **masked))
        if not isinstance(action, dict | tuple):
            _check_action(np.asarray(action), env, gym_id, len(rewards))
        obs, reward, terminated, truncated, info = env.step(action)
        qpos.append(inner.data.qpos.copy())
        rewards.append(float(reward))
    return Trajectory(
        gym_id=gym_id.rpartition("/")[2],
        model=copy.copy(inner.model),
        dt=float(inner.dt),
        qpos=np.array(qpos),
        reward=np.array(rewards),
        returns=np.concatenate([[0.0], np.cumsum(rewards)]),
        terminated=bool(terminated),
        truncated=bool(truncated),
        step_limit=env.spec.max_episode_steps if env.spec else None,
    )
