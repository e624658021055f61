"""REINFORCE with worlds on the host, which step together: whole episodes, new ones in each update, learning."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.config.layers import resolve
from mjxppo.config.values import merge
from mjxppo.ppo.episode_returns import only_whole_episodes
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import start

pytestmark = pytest.mark.usefixtures("compiled_quickly")

LIMIT, WORLDS = 12, 4


class Countdown(gymnasium.Env):
    """An episode lasts 3 to 9 steps, drawn at its start, or is cut at 12; the reward is the number of the step."""

    observation_space = gymnasium.spaces.Box(0, 100, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.step_number = int(self.np_random.integers(3, 10)), 0
        return self._obs(), {}

    def _obs(self):
        return np.array([self.step_number, self.length], np.float32)

    def step(self, action):
        self.step_number += 1
        return self._obs(), float(self.step_number), self.step_number == self.length, False, {}


gymnasium.register("Countdown-v0", Countdown, max_episode_steps=LIMIT)


def program(env: str, num_envs: int, length: int, **changes) -> TrainingProgram:
    ppo = {"num_envs": num_envs, "block_size": num_envs, "rollout_length": length}
    fields = {"algorithm": "reinforce", "policy": {"hidden_sizes": [8]}, "ppo": ppo, "log": {"every_updates": 1}}
    return start.build(resolve(env, merge(fields, changes)))


def test_each_world_acts_for_one_whole_episode_an_update():
    training = program("gymnasium:Countdown-v0", WORLDS, LIMIT, ppo={"normalize_obs": False})
    state, lengths = training.init(), []
    for _ in range(3):
        worlds, batch, _ = training.rollout_only(state, jnp.int32(10_000))
        batch = jax.tree.map(lambda x: np.asarray(x[0]), batch)
        length = batch.obs[0, :, 1].astype(int)
        steps = np.arange(LIMIT)[:, None]
        np.testing.assert_array_equal(batch.valid, steps < length)
        np.testing.assert_array_equal(
            batch.obs[..., 0][batch.valid], np.broadcast_to(steps, batch.valid.shape)[batch.valid]
        )
        np.testing.assert_array_equal(batch.reward[batch.valid], 1 + batch.obs[..., 0][batch.valid])
        np.testing.assert_array_equal(batch.terminated, steps == length - 1)
        _, unfinished = only_whole_episodes(jax.tree.map(lambda x: x[None], batch), jnp.array(False), training.devices)
        assert int(unfinished) == 0
        lengths.append(tuple(length))
        state = replace(state, env_state=worlds, update=state.update + 1)
    assert len(set(lengths)) == 3, "other episodes in each update"


def test_the_budget_counts_the_steps_of_these_episodes_and_is_exact():
    total = 10 * WORLDS
    training = program("gymnasium:Countdown-v0", WORLDS, LIMIT)
    state, budget, taken = training.init(), training.budget(total), 0
    while taken < total:
        state, metrics = training.train_chunk(state, budget)
        steps = int(metrics["env_steps_this_update"][0])
        whole = int(metrics["episodes"][0]) == WORLDS
        assert whole or int(metrics["unfinished_episodes"][0]) > 0
        taken += steps
    assert taken == total


def test_a_policy_learns_from_them():
    training = program("gymnasium:CartPole-v1", 8, 500)
    state, budget, returns = training.init(), training.budget(10**6), []
    for _ in range(40):
        state, metrics = training.train_chunk(state, budget)
        returns.append(float(metrics["episode_return"][0]))
    assert np.mean(returns[:5]) < 40 and np.mean(returns[-5:]) > 120, returns
