"""Policies with a memory, and policies that know too much, from a training state to acting on their own."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from toy import Crosswind, PointMass

from mjxppo.config.check import make_config
from mjxppo.config.values import from_dict, merge
from mjxppo.envs import Environment
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import device_episodes
from mjxppo.policy.npz import read_npz, to_npz
from mjxppo.policy.policy import Policy, from_checkpoint
from mjxppo.ppo.networks import apply_policy
from mjxppo.ppo.normalize import network_obs
from mjxppo.run import start
from mjxppo.run.arrays import named_arrays

SMALL = {
    "env": "crosswind",
    "num_devices": 1,
    "total_env_steps": 10**6,
    "policy": {"hidden_sizes": [16], "privileged": "critic"},
    "ppo": {"num_envs": 16, "block_size": 8, "rollout_length": 8, "num_minibatches": 2, "learning_rate": 1e-2},
    "log": {"every_updates": 2, "tensorboard": False},
}


def trained(**changes):
    """A program, its state after two updates, and the NumPy policy in it."""
    config = make_config(merge(SMALL, changes))
    program = start.build(config, Crosswind(max_episode_steps=6))
    state, _ = program.train_chunk(program.init(), program.budget(config.total_env_steps))
    return program, state, from_checkpoint(named_arrays(state), config)


class WithConstants(PointMass):
    """The point, a padding zero and a sensor that never moves."""

    name = "with_constants"
    obs_size = 5

    def observe(self, worlds):
        return jax.numpy.pad(super().observe(worlds), ((0, 0), (0, 2)), constant_values=((0, 0), (0, 7)))


@pytest.mark.usefixtures("compiled_quickly")
def test_a_component_that_was_constant_in_training_is_no_lever(tmp_path):
    changes = {"env": "with_constants", "policy": {"hidden_sizes": [64], "privileged": "none"}}
    config = make_config(
        merge(SMALL, changes | {"ppo": {"num_envs": 64, "rollout_length": 16}, "log": {"every_updates": 60}})
    )
    program = start.build(config, WithConstants(max_episode_steps=20))
    state, metrics = program.train_chunk(program.init(), program.budget(config.total_env_steps))
    assert metrics["reward_per_step"][-1] > metrics["reward_per_step"][0] / 2, "it has learned"
    policy, learner = from_checkpoint(named_arrays(state), config), state.learner
    (tmp_path / "policy.npz").write_bytes(to_npz(policy, "with_constants", {}))
    exported = read_npz(tmp_path / "policy.npz")

    def network(obs):
        mean, _ = apply_policy(program.network, learner.params, network_obs(learner.obs_moments, obs, True))
        return np.tanh(mean)

    x = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    obs = np.stack([*x.T, 100 * x[:, 0] + 50, 0 * x[:, 0], 0 * x[:, 0] + 7], axis=1).astype("f")
    for act in (network, policy, exported):
        for component in (3, 4):
            moved = obs.copy()
            moved[:, component] += 1e-3
            change = np.abs(act(moved) - act(obs)).max()
            assert change < 0.02, (act, component)
            moved[:, component] += 1.0
            assert 0 < np.abs(act(moved) - act(obs)).max() < 1, "it keeps its own units"


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(("history", "normalize_obs"), [(2, False), (4, True)])
def test_a_policy_with_a_history_acts_on_its_own_as_the_network_does_in_a_rollout(history, normalize_obs):
    program, state, policy = trained(policy={"history": history}, ppo={"normalize_obs": normalize_obs})
    assert (policy.obs_size, policy.action_size, policy.history) == (3, 2, history)
    learner = state.learner

    @jax.jit
    def network_acts(worlds):
        obs = network_obs(learner.obs_moments, worlds.obs, normalize_obs)
        mean, _ = apply_policy(program.network, learner.params, obs)
        return jax.numpy.tanh(mean)

    worlds = jax.jit(program.env.reset)(jax.random.split(jax.random.key(3), 5))
    act, first, ends = policy.begin(), None, 0
    for _ in range(15):
        expected = network_acts(worlds)
        np.testing.assert_allclose(act(np.asarray(worlds.obs)[:, :3], first), expected, atol=1e-5)
        worlds = jax.jit(program.env.step)(worlds, expected)
        first = np.asarray(worlds.done)
        ends += first.sum()
    assert ends >= 10


@pytest.mark.usefixtures("compiled_quickly")
def test_each_episode_begins_without_a_memory_of_the_last():
    _, _, policy = trained(policy={"history": 3})
    observations = np.random.default_rng(0).normal(size=(4, 1, 3))
    act = policy.begin()
    first = [act(obs) for obs in observations]
    assert not np.array_equal(act(observations[0]), first[0]), "the same observation, and another past"
    act = policy.begin()
    np.testing.assert_array_equal([act(obs) for obs in observations], first)
    with pytest.raises(ValueError, match=r"has a history: act = policy.begin\(\)"):
        policy(observations[0])
    with pytest.raises(ValueError, match=r"must be \[\.\.\., 3\], not \[1, 13\]"):
        policy.begin()(np.zeros((1, 13)))


@pytest.mark.usefixtures("compiled_quickly")
def test_evaluation_carries_the_history():
    program, _, policy = trained(policy={"history": 3})
    with_past = device_episodes(policy, Environment(Crosswind(max_episode_steps=6)), 4, seed=0)
    stacked = device_episodes(lambda obs: policy.of_inputs(obs[:, : policy.inputs]), program.env, 4, seed=0)
    np.testing.assert_allclose(with_past.returns, stacked.returns, rtol=1e-5)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_policy_that_needs_the_simulation_says_so_wherever_it_would_act_alone(tmp_path):
    from mjxppo.policy.export import export

    program, _, policy = trained(policy={"privileged": "both"})
    assert policy.privileged and policy.inputs == 5
    for use in (
        policy.begin,
        lambda: device_episodes(policy, Environment(Crosswind()), 1, 0),
        lambda: export(policy, "x", tmp_path / "policy.npz"),
    ):
        with pytest.raises(UserError, match=r"policy.privileged: this policy observes what only the simulation knows"):
            use()
    assert not list(tmp_path.iterdir())
    assert device_episodes(lambda obs: policy.of_inputs(obs), program.env, 2, 0).lengths.all(), "where it was trained"


@pytest.mark.exhaustive
def test_rollouts_with_history_and_privilege_are_bit_equal_on_any_number_of_devices():
    def run(num_devices):
        config = from_dict(
            merge(
                SMALL,
                {
                    "num_devices": num_devices,
                    "policy": {"history": 3},
                    "ppo": {"block_size": 4},
                    "log": {"every_updates": 1},
                    "randomize": {"observation_noise": 0.1, "max_action_delay": 2},
                },
            )
        )
        program = start.build(config, Crosswind(max_episode_steps=6))
        state, _ = program.train_chunk(program.init(), program.budget(10**6))
        return named_arrays(state.env_state)

    alone, shared = run(1), run(4)
    for name in alone:
        np.testing.assert_array_equal(alone[name], shared[name], err_msg=name)


def plain_policy(history=1):
    inputs = history * 3 + (history - 1) * 2
    rng = np.random.default_rng(0)
    layers = tuple((rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in ((inputs, 8), (8, 2)))
    return Policy(np.zeros(inputs), np.ones(inputs), 10.0, layers, "tanh", history)


def test_a_policy_says_what_it_is_in_one_line():
    assert repr(plain_policy()) == "Policy(3 -> 8 -> 2, tanh)"
    assert repr(plain_policy(history=2)) == "Policy(8 -> 8 -> 2, tanh, history 2)"


def test_predict_is_that_of_stable_baselines():
    policy, obs = plain_policy(), np.random.default_rng(1).normal(size=(5, 3))
    action, state = policy.predict(obs, None, np.ones(5, bool), deterministic=True)
    assert np.array_equal(action, policy(obs)) and state is None
    with pytest.raises(ValueError, match="deterministic"):
        policy.predict(obs, deterministic=False)


def test_predict_passes_the_past_on_and_forgets_it_where_an_episode_begins():
    policy, obs = plain_policy(history=3), np.random.default_rng(1).normal(size=(4, 5, 3))
    act, state = policy.begin(), None
    for t in range(3):
        action, state = policy.predict(obs[t], state, np.full(5, t == 0))
        assert np.array_equal(action, act(obs[t]))
    first = np.arange(5) == 2
    action, state = policy.predict(obs[3], state, first)
    assert np.array_equal(action[2], policy.begin()(obs[3])[2])
    assert np.array_equal(action[~first], act(obs[3])[~first])
