"""From Python, NumPy's numbers and arrays, paths and tuples are taken wherever numbers, lists and paths are."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mjxppo
from mjxppo import envs, physics
from mjxppo.config.check import make_config
from mjxppo.config.values import to_dict, whole
from mjxppo.errors import UserError
from mjxppo.interop.gymnasium import MjxVectorEnv
from mjxppo.policy.evaluate import evaluate
from mjxppo.render import film

ROOT = Path(__file__).resolve().parents[2]
HOPPER = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "hopper.xml"
POLICY = ROOT / "docs" / "policies" / "hopper_30m_seed1001.npz"


@pytest.mark.parametrize("array", [np.array, jnp.array, tuple, list], ids=["numpy", "jax", "tuple", "list"])
def test_a_configuration(array):
    number = np.array if array is list else np.float64
    config = make_config(
        {
            "env": np.str_("hopper"),
            "seed": np.uint8(3),
            "total_env_steps": number(1e6),
            "policy": {"hidden_sizes": array([8, 4])},
            "ppo": {"gamma": number(0.5)},
            "grid": {"ppo.learning_rate": array([0.25, 0.5])},
            "eval": {"video": np.bool_(False)},
            "env_options": {"xml_file": HOPPER, "healthy_z_range": array([0.5, 2.0])},
        }
    )
    assert (config.seed, config.total_env_steps, config.policy.hidden_sizes) == (3, 1_000_000, (8, 4))
    assert (config.ppo.gamma, config.grid, config.eval.video) == (0.5, {"ppo.learning_rate": (0.25, 0.5)}, False)
    written = json.loads(json.dumps(to_dict(config)))
    assert written["env_options"] == {"xml_file": str(HOPPER), "healthy_z_range": [0.5, 2.0]}


@pytest.mark.parametrize("array", [np.array, jnp.array, tuple, list], ids=["numpy", "jax", "tuple", "list"])
def test_an_environment(array):
    options = envs.make(
        "hopper",
        xml_file=HOPPER,
        frame_skip=np.float64(2),
        max_episode_steps=np.array(5),
        ctrl_cost_weight=np.float32(0.5),
        healthy_z_range=array([0.5, 2.0]),
        terminate_when_unhealthy=np.bool_(False),
    ).task.options
    assert options == type(options)(
        xml_file=str(HOPPER),
        frame_skip=2,
        max_episode_steps=5,
        ctrl_cost_weight=0.5,
        healthy_z_range=(0.5, 2.0),
        terminate_when_unhealthy=False,
    )
    assert [type(value) for value in (options.frame_skip, options.max_episode_steps)] == [int, int]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frame_skip": 4.5}, r"env_options.frame_skip: .*integer.*4\.5"),
        ({"ctrl_cost_weight": "much"}, r"env_options.ctrl_cost_weight: .*number.*'much'"),
        ({"healthy_z_range": np.array([1.0, 2.0, 3.0])}, "env_options.healthy_z_range: .*at most 2"),
        ({"max_episode_steps": np.array([1, 2])}, "env_options.max_episode_steps: .*integer"),
    ],
)
def test_an_environment_is_refused_where_an_option_has_a_wrong_type(options, message):
    with pytest.raises(UserError, match=message):
        envs.make("hopper", **options)


def test_environments_of_other_libraries():
    options = {"max_episode_steps": np.int64(5)}
    assert envs.make("brax:fast", **options).max_episode_steps == 5
    env = envs.make("gymnasium:Hopper-v5", xml_file=HOPPER, healthy_z_range=np.array([0.5, 2.0]), **options)
    assert env.max_episode_steps == 5


def test_physics():
    model = mujoco.MjModel.from_xml_path(str(HOPPER))
    assert physics.make(model, frame_skip=np.array(2)).frame_skip == 2
    with pytest.raises(UserError, match=r"frame_skip: must be a whole number, not 2\.5"):
        physics.make(model, frame_skip=2.5)


@pytest.mark.parametrize("wrong", [2.5, float("nan"), float("inf"), "2", None, True, np.array([1, 2])])
def test_a_whole_number_is_nothing_else(wrong):
    with pytest.raises(UserError, match="episodes: must be a whole number"):
        whole("episodes", wrong)


def test_a_policy_its_evaluation_and_its_film(tmp_path):
    policy = mjxppo.load_policy(POLICY)
    assert policy((0.0,) * 11).shape == policy(jnp.zeros(11)).shape == policy([0.0] * 11).shape == (3,)
    config = make_config({"env": "hopper", "env_options": {"max_episode_steps": 5, "xml_file": HOPPER}})
    result = evaluate(policy, config, "gymnasium", np.int64(2), np.array(7))
    assert json.loads(json.dumps(result))["seeds"] == [7, 8]
    size = {"width": np.int64(64), "height": np.array(64)}
    filmed = film(policy, config, tmp_path / "a.html", max_seconds=np.float32(0.02), seed=np.uint32(7), **size)
    assert json.loads(json.dumps(filmed))["seed"] == 7


def test_a_vector_environments_seeds(monkeypatch):
    made = MjxVectorEnv("brax:fast", np.int64(2), num_devices=np.array(1))
    seen = []
    monkeypatch.setattr(made, "_keys", lambda seeds: seen.append(seeds) or 1 / 0)
    for seed in (3, np.int64(3), np.array(3), np.array([3, 4]), (3, np.uint8(4)), [3, 4]):
        with pytest.raises(ZeroDivisionError):
            made.reset(seed=seed)
    assert seen == [[3, 4]] * 6
