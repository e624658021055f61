"""A PPO in the manner of CleanRL's ppo_continuous_action.py (PyTorch, one file), on our vector environment.

Run it, beside torch, with: python examples/cleanrl_ppo.py --env-id mjxppo.gymnasium:mjxppo/Hopper-v5

It knows nothing of mjxppo but the task's id. The loop follows the environment's NEXT_STEP autoreset: the step
after an episode's end only resets, so its transition is masked out, and a time limit bootstraps from the true last
observation, which is the one that the ending step returned.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from torch import nn
from torch.distributions import Normal

Act = Callable[[np.ndarray], np.ndarray]
"""An action in [-1, 1] for an observation."""


class Agent(nn.Module):
    """Actor and critic, two hidden layers each."""

    def __init__(self, obs_size: int, action_size: int):
        super().__init__()
        self.critic = self._network(obs_size, 1, 1.0)
        self.mean = self._network(obs_size, action_size, 0.01)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def _network(self, inputs: int, outputs: int, gain: float) -> nn.Sequential:
        sizes, layers = [inputs, 64, 64], []
        for m, n in itertools.pairwise(sizes):
            layers += [self._layer(m, n, 2**0.5), nn.Tanh()]
        return nn.Sequential(*layers, self._layer(64, outputs, gain))

    def _layer(self, inputs: int, outputs: int, gain: float) -> nn.Linear:
        layer = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
        return layer

    def policy(self, obs: torch.Tensor) -> Normal:
        """The action's distribution, before clipping to the action space."""
        return Normal(self.mean(obs), self.log_std.exp())

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """The value of each observation."""
        return self.critic(obs).squeeze(-1)


def advantages(agent, obs, next_obs, rewards, terminated, done, valid, gamma=0.99, lam=0.95):
    """GAE: an end cuts the sum; only a termination is worth 0 beyond."""
    with torch.no_grad():
        values, next_values = agent.value(obs), agent.value(next_obs)
    delta = rewards + gamma * next_values * ~terminated - values
    result, last = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        last = (delta[t] + gamma * lam * last * ~done[t]) * valid[t]
        result[t] = last
    return result, values


def learn(agent, optimizer, batch, epochs=4, minibatches=16, clip=0.2):
    """Some epochs of clipped policy and value gradients over shuffled samples."""
    obs, actions, log_probs, adv, returns = batch
    for _ in range(epochs):
        for rows in torch.randperm(len(obs)).chunk(minibatches):
            policy = agent.policy(obs[rows])
            ratio = (policy.log_prob(actions[rows]).sum(-1) - log_probs[rows]).exp()
            a = (adv[rows] - adv[rows].mean()) / (adv[rows].std() + 1e-8)
            policy_loss = -torch.min(a * ratio, a * ratio.clamp(1 - clip, 1 + clip)).mean()
            value_loss = 0.5 * (agent.value(obs[rows]) - returns[rows]).square().mean()
            optimizer.zero_grad()
            (policy_loss + 0.5 * value_loss).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def train(env_id: str, num_envs: int, total_steps: int, rollout: int = 32, seed: int = 0) -> tuple[Act, list[float]]:
    """Trains; returns the policy's mean action, and the mean return of the episodes that ended in each update."""
    torch.manual_seed(seed)
    normalized = NormalizeObservation(RecordEpisodeStatistics(gymnasium.make_vec(env_id, num_envs=num_envs)))
    envs = NormalizeReward(normalized, gamma=0.99)
    agent = Agent(envs.single_observation_space.shape[0], envs.single_action_space.shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    obs, began = torch.as_tensor(envs.reset(seed=seed)[0], dtype=torch.float32), np.zeros(num_envs, bool)
    history, started = [], time.perf_counter()
    for update in range(total_steps // (num_envs * rollout)):
        steps, finished = [], []
        for _ in range(rollout):
            with torch.no_grad():
                policy = agent.policy(obs)
                action = policy.sample()
            array, reward, terminated, truncated, infos = envs.step(action.numpy().clip(-1, 1))
            next_obs = torch.as_tensor(array, dtype=torch.float32)
            done = terminated | truncated
            flags = (torch.as_tensor(flag) for flag in (terminated, done, ~began))
            reward = torch.as_tensor(reward, dtype=torch.float32)
            steps.append((obs, next_obs, action, policy.log_prob(action).sum(-1), reward, *flags))
            if "episode" in infos:
                finished.extend(infos["episode"]["r"][infos["_episode"]])
            obs, began = next_obs, done
        obs_t, next_t, actions, log_probs, rewards, terminated_t, done_t, valid = (
            torch.stack(column) for column in zip(*steps, strict=True)
        )
        adv, values = advantages(agent, obs_t, next_t, rewards, terminated_t, done_t, valid)
        learn(agent, optimizer, [x[valid] for x in (obs_t, actions, log_probs, adv, adv + values)])
        if finished:
            history.append(float(np.mean(finished)))
            speed = (update + 1) * num_envs * rollout / (time.perf_counter() - started)
            print(
                f"{(update + 1) * num_envs * rollout} steps, return {history[-1]:.1f}, {speed:.0f} steps/s", flush=True
            )
    envs.close()
    moments = normalized.obs_rms

    def act(obs: np.ndarray) -> np.ndarray:
        obs = (obs - moments.mean) / np.sqrt(moments.var + normalized.epsilon)
        with torch.no_grad():
            return agent.mean(torch.as_tensor(obs, dtype=torch.float32)).numpy().clip(-1, 1)

    return act, history


def evaluate(act: Act, env_id: str, episodes: int = 10) -> np.ndarray:
    """Returns of whole episodes in Gymnasium's own environment of that name, on C MuJoCo."""
    env, returns = gymnasium.make(env_id.rpartition("/")[2]), np.zeros(episodes)
    for i in range(episodes):
        obs, done = env.reset(seed=1_000_000 + i)[0], False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(act(obs))
            returns[i] += reward
            done = terminated or truncated
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-id", default="mjxppo.gymnasium:mjxppo/HalfCheetah-v5")
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--total-steps", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    policy, _ = train(arguments.env_id, arguments.num_envs, arguments.total_steps, seed=arguments.seed)
    scores = evaluate(policy, arguments.env_id)
    print(f"return in Gymnasium's C MuJoCo: {scores.mean():.0f} +- {scores.std():.0f} over {len(scores)} episodes")
