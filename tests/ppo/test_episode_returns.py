"""Returns of whole episodes: by hand, and as a rollout collects them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo.config.layers import resolve
from mjxppo.config.schema import ReinforceConfig
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.episode_returns import episode_returns, only_whole_episodes
from mjxppo.ppo.episodes import EpisodeSteps
from mjxppo.ppo.rollout import Batch
from mjxppo.ppo.unknown import with_nan
from mjxppo.run import start

SIZES = {"num_envs": 8, "block_size": 4, "rollout_length": 20}


def batch_of(**arrays: Any) -> Batch:
    """A batch of one block of two worlds, from arrays [T, 2]."""
    shape = np.shape(arrays["reward"])
    no, zero = np.zeros(shape, bool), np.zeros(shape)
    age = np.arange(1, shape[0] + 1)[:, None] * np.ones(shape, int)
    episode = EpisodeSteps(arrays.pop("age", age), ~no, zero)
    fields = {"terminated": no, "truncated": no, "valid": ~no, "final_value": zero, "log_prob": zero, **arrays}
    fields |= {"obs": np.zeros((*shape, 1)), "u": np.zeros((*shape, 1)), "episode": episode}
    return jax.tree.map(lambda x: jnp.asarray(x)[None], Batch(**fields))


def ends(*when: tuple[int, int], steps: int = 4) -> np.ndarray:
    result = np.zeros((steps, 2), bool)
    for place in when:
        result[place] = True
    return result


def test_whole_and_to_go_by_hand():
    taken = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], bool)
    batch = batch_of(
        reward=np.where(taken, [[1, 2], [3, 4], [5, 100], [7, 100]], 0),
        truncated=ends((3, 0)),
        terminated=ends((1, 1)),
        valid=taken,
    )
    to_go = [[1 + 1.5 + 1.25 + 0.875, 2 + 2], [3 + 2.5 + 1.75, 4], [5 + 3.5, 0], [7, 0]]
    weighting, targets = episode_returns(ReinforceConfig(returns="to_go"), batch, 0.5)
    np.testing.assert_allclose(weighting[0], to_go)
    np.testing.assert_allclose(targets[0], to_go)
    weighting, targets = episode_returns(ReinforceConfig(returns="whole"), batch, 0.5)
    np.testing.assert_allclose(weighting[0], [[4.625, 4], [4.625, 4], [4.625, 0], [4.625, 0]])
    np.testing.assert_allclose(targets[0], to_go)


def test_unfinished_late_and_broken_episodes_are_left_out_and_counted():
    ones = np.ones((4, 2))
    finished = {"reward": ones, "truncated": ends((3, 0), (3, 1))}
    for cut in (False, True):
        whole, unfinished = only_whole_episodes(batch_of(**finished), jnp.array(cut), Devices(1))
        assert int(unfinished) == 0 and whole.valid.all()
    late = np.array([[1, 3], [2, 4], [3, 5], [4, 6]])
    broken = ~ends((3, 1))
    for change in (
        {"truncated": ends((3, 0))},  # world 1 has not ended
        {"age": late},  # its episode began before
        {"valid": broken, "truncated": ends((3, 0))},  # it broke in the last step
    ):
        batch = batch_of(**(finished | change))
        whole, unfinished = only_whole_episodes(batch, jnp.array(False), Devices(1))
        assert int(unfinished) == 1
        np.testing.assert_array_equal(whole.valid[0], [[True, False]] * 4)
        whole, unfinished = only_whole_episodes(batch, jnp.array(True), Devices(1))
        assert int(unfinished) == 1 and not whole.valid.any(), "those that end within a budget are the short ones"


def program_of(**fields: Any) -> Any:
    changes = {"algorithm": "reinforce", "ppo": SIZES, "total_env_steps": 10**6, "log": {"every_updates": 1}}
    config = resolve("point_mass", {**changes, **fields})
    return start.build(config, PointMass())


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_each_world_acts_for_one_episode(platform):
    """Some of the untrained policy's episodes end early; the time limit of 20 ends the others."""
    config = resolve("point_mass", {"algorithm": "reinforce", "ppo": SIZES})
    program = start.build(config, PointMass())
    if platform == "gpu":
        program.env.platform = "gpu"
    state = program.init()
    # Far to one side and drifting, worlds 0 and 5 leave early.
    far = state.env_state.worlds["x"].at[jnp.array([0, 5])].set(2.9)
    state = state.replace(env_state=dataclasses.replace(state.env_state, worlds={"x": far}))
    worlds, batch, _ = program.rollout_only(state, jnp.int32(8 * 20))
    taken = np.moveaxis(np.asarray(batch.valid), 1, 0).reshape(20, 8)
    ended = np.moveaxis(np.asarray(batch.terminated | batch.truncated), 1, 0).reshape(20, 8)
    assert ended.sum(0).tolist() == [1] * 8
    lengths = taken.sum(0)
    assert (lengths == 1 + ended.argmax(0)).all(), "not a step after the end"
    assert lengths.max() == 20 and lengths.min() < 20
    np.testing.assert_array_equal(np.asarray(worlds.episode_length), lengths)
    # The next update begins with new episodes.
    again = program.rollout_only(state.replace(env_state=worlds), jnp.int32(8 * 20))[1]
    ages = np.asarray(again.episode.age)[:, 0]
    assert (ages == 1).all()


def test_unfinished_episodes_at_the_end_of_the_budget_teach_nothing():
    program = program_of()
    state, metrics = program.train_chunk(program.init(), program.budget(8 * 20 + 8 * 3))
    steps = int(metrics["env_steps_this_update"][0])
    assert steps <= 160 and int(metrics["gradient_steps"][0]) == 1 and int(metrics["unfinished_episodes"][0]) == 0
    before = jax.tree.map(np.asarray, state.learner)
    while int(metrics["env_steps_low"][-1]) < 8 * 20 + 8 * 3:
        before = jax.tree.map(np.asarray, state.learner)
        state, metrics = program.train_chunk(state, program.budget(8 * 20 + 8 * 3))
    assert int(metrics["unfinished_episodes"][0]) == 8 and int(metrics["gradient_steps"][0]) == 0
    metrics = with_nan(jax.device_get(metrics))
    assert np.isnan(metrics["expected_return"][0]), "nothing is known"
    assert np.isnan(metrics["explained_variance"][0]) and np.isnan(metrics["entropy"][0])
    before, after = (learner.replace(obs_moments=None) for learner in (before, state.learner))
    jax.tree.map(np.testing.assert_array_equal, before, after)
