"""Both bridges to Brax, and other libraries' environments by their interface alone."""

from __future__ import annotations

import sys
from typing import Any

import brax.envs
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.wrappers import training as wrappers
from toy import PointMass

from mjxppo import envs
from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.envs.foreign.brax import from_playground
from mjxppo.errors import UserError
from mjxppo.run import loop, start

N = 4


class TestOursAsBraxs:
    def test_a_task_by_name_has_the_shapes_of_a_brax_environment(self):
        env = envs.as_brax("hopper")
        assert isinstance(env, brax.envs.Env)
        assert (env.observation_size, env.action_size, env.backend, env.dt) == (11, 3, "planar", pytest.approx(0.008))
        state = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.PRNGKey(0), N))
        stepped = jax.eval_shape(jax.vmap(env.step), state, jnp.zeros((N, 3)))
        assert jax.tree.structure(state) == jax.tree.structure(stepped)
        assert [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(stepped)]
        assert set(state.metrics) == {"reward_forward", "reward_ctrl", "reward_survive"}

    def test_its_steps_are_ours(self):
        ours, theirs = envs.make(PointMass()), envs.as_brax(PointMass())
        keys = jax.random.split(jax.random.key(0), N)
        state = jax.jit(jax.vmap(theirs.reset))(keys)
        expected = ours.reset(keys).replace(worlds=state.pipeline_state)
        step, advance = jax.jit(jax.vmap(theirs.step)), jax.jit(ours.advance)
        for t in range(25):
            action = jnp.array([1.0, 0.0]) * jax.random.uniform(jax.random.key(t), (N, 2))
            state, expected = step(state, action), advance(expected, action)
            np.testing.assert_allclose(state.obs, expected.obs, rtol=1e-6)
            np.testing.assert_allclose(state.reward, expected.reward, rtol=1e-6)
            terms = expected.reward_terms
            np.testing.assert_allclose(state.metrics["reward_distance"], terms["reward_distance"], rtol=1e-6)
            np.testing.assert_array_equal(state.done, expected.terminated)
        assert state.done.any()

    def test_braxs_own_wrappers_add_the_time_limit_and_the_reset(self):
        env = wrappers.wrap(envs.as_brax(PointMass()), episode_length=5)
        state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(1), N))
        first, step = state.obs, jax.jit(env.step)
        for t in range(1, 6):
            state = step(state, jnp.full((N, 2), 0.5))
            assert state.done.tolist() == [float(t == 5)] * N
        assert state.info["truncation"].tolist() == [1.0] * N
        np.testing.assert_array_equal(state.obs, first)
        np.testing.assert_allclose(
            state.info["episode_metrics"]["reward_distance"], state.info["episode_metrics"]["sum_reward"]
        )

    def test_a_world_gone_non_finite_is_done_with_no_reward(self):
        env = envs.as_brax(PointMass())
        state = env.reset(jax.random.key(0))
        state = env.step(state.replace(pipeline_state={"x": jnp.array([jnp.nan, 0.0])}), jnp.zeros(2))
        assert (float(state.reward), float(state.done)) == (0, 1) and np.isfinite(state.obs).all()

    @pytest.mark.parametrize("reward", [-jnp.inf, jnp.nan, 2e10])
    def test_a_reward_that_is_no_number_ends_the_episode_without_it(self, reward):
        class Spoiled(PointMass):
            def advance(self, worlds, action):
                worlds, terms, terminated = super().advance(worlds, action)
                return worlds, {"reward_distance": terms["reward_distance"] + reward}, terminated

        env = envs.as_brax(Spoiled())
        state = env.step(env.reset(jax.random.key(0)), jnp.zeros(2))
        assert (float(state.reward), float(state.done)) == (0, 1)

    @pytest.mark.exhaustive
    @pytest.mark.usefixtures("compiled_quickly")
    def test_braxs_own_ppo_learns_on_it(self, monkeypatch):
        # Brax 0.14 still calls a function that JAX has dropped.
        replicate = lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)  # noqa: E731
        monkeypatch.setattr(jax, "device_put_replicated", replicate, raising=False)
        from brax.training.agents.ppo import train as brax_ppo

        seen: list[Any] = []
        brax_ppo.train(
            environment=envs.as_brax(PointMass()),
            num_timesteps=60_000,
            episode_length=20,
            num_envs=64,
            batch_size=64,
            num_minibatches=4,
            unroll_length=20,
            num_updates_per_batch=4,
            num_evals=3,
            num_eval_envs=64,
            learning_rate=3e-3,
            normalize_observations=True,
            max_devices_per_host=1,
            progress_fn=lambda steps, metrics: seen.append(float(metrics["eval/episode_reward"])),
        )
        assert seen[-1] > 0.5 * seen[0], "rewards are negative: at least half of the distance is gone"


@flax.struct.dataclass
class State:
    """As Playground has it: data instead of a pipeline state, observations in parts."""

    data: Any
    obs: dict[str, jax.Array]
    reward: jax.Array
    done: jax.Array
    metrics: dict[str, jax.Array]
    info: dict[str, Any]


class Reacher:
    """An MjxEnv by its looks only: a point that has to go to where its observation says."""

    action_size = 2
    dt = 0.05

    def _obs(self, data):
        return {"state": data["goal"] - data["x"], "privileged_state": jnp.concatenate([data["goal"], data["x"]])}

    def reset(self, rng):
        # A simulator's state may hold empty arrays, such as the contacts of a model without any.
        goal = jax.random.uniform(rng, (2,), minval=-1, maxval=1)
        data = {"x": jnp.zeros(2), "goal": goal, "contact": jnp.zeros((0, 3))}
        zero = jnp.zeros(())
        return State(data, self._obs(data), zero, zero, {"distance": zero}, {"rng": rng})

    def step(self, state, action):
        data = state.data | {"x": state.data["x"] + 0.2 * action}
        distance = jnp.linalg.norm(data["goal"] - data["x"])
        done = (jnp.abs(data["x"]).max() > 2).astype(jnp.float32)
        return state.replace(
            data=data, obs=self._obs(data), reward=-distance, done=done, metrics={"distance": distance}
        )


def small_config(**changes) -> Config:
    ppo = {"num_envs": 64, "block_size": 16, "rollout_length": 16, "num_minibatches": 4, "learning_rate": 3e-3}
    return make_config({"env": "any", "num_devices": 2, "ppo": ppo} | changes)


class TestTheirsAsOurs:
    def test_an_object_with_their_interface_will_do(self):
        env = envs.make(Reacher(), max_episode_steps=7)
        assert (env.name, env.obs_size, env.action_size, env.step_duration) == ("Reacher", 2, 2, 0.05)
        state = env.reset(jax.random.split(jax.random.key(0), N))
        goals = [np.asarray(state.obs)]
        for t in range(1, 8):
            state = env.step(state, jnp.zeros((N, 2)))
            assert state.truncated.tolist() == [t == 7] * N
        goals.append(np.asarray(state.obs))
        assert not np.isclose(*goals).any(), "a fresh start, with another goal"
        np.testing.assert_array_equal(state.final_obs, goals[0])

    def test_training_learns_on_it(self, tmp_path):
        program = start.build(small_config(total_env_steps=60 * 1024), envs.make(Reacher(), max_episode_steps=20))
        outcome = loop.train(program, tmp_path)
        # Standing still costs 0.77 a step, some 15 an episode.
        assert outcome.expected_return > -7

    @pytest.mark.parametrize("name", ["ant", "inverted_pendulum", "reacher"])
    @pytest.mark.usefixtures("mjx_is_only_traced")
    def test_braxs_own_environments_fit(self, name):
        env = envs.make(f"brax:{name}")
        state = jax.eval_shape(env.reset, jax.random.split(jax.random.key(0), N))
        stepped = jax.eval_shape(env.step, state, jnp.zeros((N, env.action_size)))
        assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), stepped)
        assert state.obs.shape == (N, env.obs_size) and env.step_duration > 0

    @pytest.mark.parametrize(
        "env, options, message",
        [
            (object(), {}, "object has no reset"),
            (Reacher(), {"max_episode_steps": 0}, "must be from 1 to"),
            ("brax:nothing", {}, "Brax has no environment 'nothing'"),
            ("brax:ant", {"legs": 5}, "does not take these options"),
            ("playgroud:Cartpole", {}, "there is no task"),
        ],
    )
    def test_what_cannot_be_had_is_refused_in_one_line(self, env, options, message):
        with pytest.raises(UserError, match=message) as error:
            envs.make(env, **options)
        assert "\n" not in str(error.value)

    def test_pictures_are_no_observations(self):
        camera = Reacher()
        camera._obs = lambda data: {"pixels/view_0": jnp.zeros((8, 8, 3))}
        with pytest.raises(UserError, match="must observe a vector"):
            envs.make(camera)

    def test_playground_that_is_not_installed_is_named_with_the_remedy(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mujoco_playground", None)
        with pytest.raises(UserError, match="pip install 'playground<1'"):
            envs.make("playground:CartpoleBalance")

    def test_playgrounds_environments(self, tmp_path):
        pytest.importorskip("mujoco_playground")
        env = from_playground("CartpoleBalance", max_episode_steps=10)
        outcome = loop.train(start.build(small_config(total_env_steps=2048), env), tmp_path)
        assert outcome.expected_return > 0
        with pytest.raises(UserError, match="no environment 'Nothing'"):
            envs.make("playground:Nothing")


@flax.struct.dataclass
class OwnState:
    p: Any
    obs: Any
    reward: Any
    done: Any
    info: dict


class Own:
    """An environment in Brax's form, without its base class; what its reset gives can be changed."""

    action_size = 1

    def __init__(self, **after_reset: Any):
        self.after_reset = after_reset

    def reset(self, key):
        p = jax.random.uniform(key, (), minval=-1.0)
        state = OwnState(p, jnp.stack([p, p * 0 + 1]), 0, False, {"steps": 0, "key": key})
        return state.replace(**self.after_reset)

    def step(self, state, action):
        p = state.p + 0.1 * action[0]
        done = (abs(p) > 2).astype(jnp.float32)
        info = {"steps": state.info["steps"] + 1.0, "key": state.info["key"]}
        return OwnState(p, jnp.stack([p, p * 0 + 1]), -(p**2), done, info)


def test_numbers_of_other_types_after_reset_are_cast():
    env = envs.make(Own())
    state = jax.jit(env.reset)(jax.random.split(jax.random.key(0), 4))
    stepped = jax.jit(env.step)(state, jnp.zeros((4, 1)))
    types = [jax.tree.map(lambda x: x.dtype, each.worlds) for each in (state, stepped)]
    assert types[0] == types[1] and types[0].reward == jnp.float32
    np.testing.assert_allclose(stepped.reward, -np.square(state.worlds.p))


@pytest.mark.parametrize(
    ("after_reset", "message"),
    [
        ({"p": jnp.zeros(2)}, "Own's state has obs of shape"),
        ({"info": {"steps": 0, "key": jax.random.key(0), "goal": 1.0}}, "Own's state has info.goal after reset only"),
        ({"reward": jnp.zeros(1)}, "Own's state has reward of shape [1] after reset and [] after step"),
    ],
)
def test_states_that_differ_between_reset_and_step_are_one_line_that_names_the_part(after_reset, message):
    with pytest.raises(UserError) as refused:
        envs.make(Own(**after_reset))
    assert message in str(refused.value) and "\n" not in str(refused.value)
