"""Stable-Baselines3's PPO on our vector environment, through a small bridge to SB3's own interface.

pip install stable-baselines3
python examples/sb3_ppo.py --env-id mjxppo.gymnasium:mjxppo/Hopper-v5 --num-envs 256
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize


class GymnasiumVecEnv(VecEnv):
    """A Gymnasium vector environment that resets in the same step, as SB3 expects it."""

    def __init__(self, env_id: str, num_envs: int, **options: Any):
        self.envs = gymnasium.make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep", dtype="float32", **options)
        super().__init__(num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def reset(self) -> np.ndarray:
        seed = None if self._seeds[0] is None else self._seeds
        self._reset_seeds()
        return self.envs.reset(seed=seed)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, gym_infos = self.envs.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            limit = bool(truncated[i] and not terminated[i])
            infos[i] = {"terminal_observation": gym_infos["final_obs"][i], "TimeLimit.truncated": limit}
        return obs, reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.envs, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def train(env_id: str, num_envs: int, total_steps: int, seed: int = 0, **ppo: Any) -> PPO:
    """Trains SB3's PPO; returns its model."""
    envs = VecNormalize(VecMonitor(GymnasiumVecEnv(env_id, num_envs)))
    settings = {"n_steps": 64, "batch_size": num_envs * 4, "n_epochs": 5, "learning_rate": 3e-4} | ppo
    model = PPO("MlpPolicy", envs, seed=seed, device="cpu", verbose=1, **settings)
    return model.learn(total_steps)


def evaluate(model: PPO, env_id: str, episodes: int = 10) -> np.ndarray:
    """Returns of whole episodes in Gymnasium's own environment of that name, on C MuJoCo."""
    env, returns = gymnasium.make(env_id.rpartition("/")[2]), np.zeros(episodes)
    normalized = model.get_vec_normalize_env()
    for i in range(episodes):
        obs, done = env.reset(seed=1_000_000 + i)[0], False
        while not done:
            action, _ = model.predict(normalized.normalize_obs(obs), deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[i] += reward
            done = terminated or truncated
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-id", default="mjxppo.gymnasium:mjxppo/Hopper-v5")
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--total-steps", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    trained = train(arguments.env_id, arguments.num_envs, arguments.total_steps, arguments.seed)
    scores = evaluate(trained, arguments.env_id)
    print(f"return in Gymnasium's C MuJoCo: {scores.mean():.0f} +- {scores.std():.0f} over {len(scores)} episodes")
