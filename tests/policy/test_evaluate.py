"""Evaluation: in the worlds of training, and of worlds that break."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo import envs
from mjxppo.config.check import make_config
from mjxppo.envs import Environment
from mjxppo.errors import UserError
from mjxppo.policy.engine import physics_of
from mjxppo.policy.evaluate import device_episodes, evaluate, evaluate_in
from mjxppo.policy.policy import from_checkpoint
from mjxppo.run import start
from mjxppo.run.arrays import named_arrays

RANDOMIZED = {
    "env": "point_mass",
    "num_devices": 1,
    "policy": {"hidden_sizes": [4]},
    "ppo": {"num_envs": 8, "block_size": 8, "rollout_length": 4, "num_minibatches": 1},
    "randomize": {"observation_bias": {"distribution": "uniform", "low": 5.0, "high": 6.0, "operation": "add"}},
}


def towards(obs):
    return np.clip(-obs[:, :2] / 0.3, -1, 1)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("curriculum", [None, 0.0], ids=["whole ranges", "a curriculum"])
def test_as_trained_means_the_whole_ranges_wherever_a_curriculum_stands(curriculum):
    randomize = RANDOMIZED["randomize"] | {"curriculum_return": curriculum}
    config = make_config(RANDOMIZED | {"randomize": randomize})
    program = start.build(config, PointMass())
    policy = from_checkpoint(named_arrays(program.init()), config)
    seen = []

    class Spy(type(policy)):
        def of_inputs(self, inputs, mask=None):
            seen.append(inputs)
            return super().of_inputs(inputs, mask)

    spy = Spy(**vars(policy))
    evaluate(spy, config, "own", 8, seed=0, as_trained=True, env=Environment(PointMass()))
    assert seen[0][:, :2].min() > 3, "every world is at most 1 from the origin, and seen 5 to 6 further"


class Breaking(PointMass):
    """Worlds on the left side break at once."""

    def advance(self, worlds, action):
        worlds, terms, terminated = super().advance(worlds, action)
        return {"x": jnp.where(worlds["x"][:, :1] < 0, 2e10, worlds["x"])}, terms, terminated


def test_episodes_of_worlds_that_break_do_not_count_and_are_named():
    env = Environment(Breaking(max_episode_steps=3))
    episodes = device_episodes(towards, env, 30, seed=0)
    assert 0 < episodes.broken.sum() < 30
    result = evaluate_in(env, lambda obs: np.zeros((len(obs), 2), "f"), 30, seed=100)
    broken, sound = result["broken_seeds"], result["seeds"]
    assert sorted(broken + sound) == list(range(100, 130)) and broken and sound
    assert result["episodes"] == len(sound) == len(result["returns"]) == len(result["lengths"])
    assert set(result["lengths"]) == {3}, "a world that breaks at its first step would have had 1"
    with pytest.raises(UserError, match="env: all 4 worlds of point_mass broke"):
        evaluate_in(Environment(AllBreaking()), towards, 4, seed=0)


class AllBreaking(PointMass):
    """Worlds that break at once."""

    def advance(self, worlds, action):
        worlds, terms, terminated = super().advance(worlds, action)
        return {"x": worlds["x"] + jnp.nan}, terms, terminated


def test_worlds_on_the_host_are_refused_where_a_device_program_has_to_step_them():
    from mjxppo.interop.gymnasium import MjxVectorEnv

    for make in (
        lambda: envs.as_brax("gymnasium:InvertedPendulum-v5"),
        lambda: MjxVectorEnv(envs.make("gymnasium:InvertedPendulum-v5"), 2),
    ):
        with pytest.raises(
            UserError, match="env: gymnasium:InvertedPendulum-v5 is simulated on the host; take it from"
        ):
            make()


@pytest.mark.parametrize(
    ("engine", "env", "text"),
    [
        ("gymnasium", "hopper", "Gymnasium's C MuJoCo"),
        ("gymnasium", "gymnasium:Pendulum-v1", "Gymnasium's own environment"),
        ("gymnasium", "a_users_task", "Gymnasium's own environment"),
        ("own", "brax:ant", "the environment's own physics"),
        ("mjx", "hopper", "mjx physics"),
    ],
)
def test_the_physics_are_named_as_they_are(engine, env, text):
    assert physics_of(engine, env) == text
