"""The examples. Some need packages that are no dependencies, such as PyTorch."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from toy import PointMass

import mjxppo
from mjxppo.config.values import merge, read_yaml
from mjxppo.envs.registry import register
from mjxppo.errors import UserError
from mjxppo.interop.gymnasium import MjxVectorEnv


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])
    make = lambda num_envs=1, **options: MjxVectorEnv(PointMass(), num_envs, **options)  # noqa: E731
    gymnasium.register("Point-v0", vector_entry_point=make)
    yield
    del gymnasium.registry["Point-v0"]


def test_the_documentations_task_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/python.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class PointMass" in block)
    assert "200_000" in code
    scope = {}
    exec(code.replace("200_000", "131_072, ppo={'num_envs': 256, 'num_minibatches': 8}"), scope)
    returns = [row["episode_return"] for row in scope["run"].rows if row["episode_return"] is not None]
    assert returns[-1] > 0.5 * returns[0], "returns are negative"
    assert scope["run"].policy(np.zeros(2)).shape == (2,)


def test_cleanrls_ppo_learns():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import cleanrl_ppo

    act, history = cleanrl_ppo.train("Point-v0", num_envs=64, total_steps=16 * 64 * 32)
    assert len(history) == 16 and history[-1] > 0.5 * history[0], "returns are negative"
    assert act(np.zeros(3)).shape == (2,)


def test_sb3s_ppo_learns():
    pytest.importorskip("stable_baselines3")
    import sb3_ppo
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecMonitor

    model = sb3_ppo.train("Point-v0", num_envs=64, total_steps=60_000, n_steps=32, learning_rate=3e-3)
    envs = model.get_env()
    envs.training = envs.norm_reward = False
    mean, _ = evaluate_policy(model, envs, n_eval_episodes=64)
    assert mean > -6, "standing still costs 0.67 a step, some 13 an episode"
    assert isinstance(envs.venv, VecMonitor)


def test_pytorch_and_jax_share_observations_and_actions():
    torch = pytest.importorskip("torch")
    envs = MjxVectorEnv(PointMass(), 64, arrays="jax", num_devices=1)
    obs, _ = envs.reset(seed=0)
    shared = torch.from_dlpack(obs)
    assert shared.data_ptr() == obs.unsafe_buffer_pointer()
    before = shared.clone()
    after, *_ = envs.step(jax.dlpack.from_dlpack(-0.5 * shared[:, :2]))
    assert torch.equal(shared, before), "the step took the observations' memory for its own results"
    envs.reset(seed=0)
    expected, *_ = envs.step(-0.5 * before.numpy()[:, :2])
    assert np.array_equal(after, expected)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_picture_of_cloning_shows_returns_and_errors(tmp_path):
    import cloning
    from PIL import Image

    register("point", PointMass)
    small = {"policy": {"hidden_sizes": [8]}, "ppo": {"num_envs": 16, "block_size": 8, "num_minibatches": 4}}
    changes = {**small, "env": "point", "eval": {"episodes": 4, "video": False}}
    teacher = lambda obs, step: np.clip(-obs[:2] / 0.3, -1, 1)  # noqa: E731
    result = cloning.measure(teacher, changes, [1, 4], tmp_path, 100)
    assert len(result["teacher"]) == 4 and len(result["clones"][4]["returns"]) == 4
    assert result["clones"][1]["distance"] == sorted(result["clones"][1]["distance"])
    assert np.mean(result["clones"][1]["error"]) > np.mean(result["clones"][4]["error"])
    cloning.draw(result, tmp_path / "cloning.png")
    assert Image.open(tmp_path / "cloning.png").size == (1000, 400)


def test_the_gait_runs():
    from gait import gait

    env = gymnasium.make("HalfCheetah-v5")
    obs, _ = env.reset(seed=0)
    total = 0.0
    for step in range(300):
        obs, reward, *_ = env.step(gait(obs, step).astype(np.float32))
        total += reward
    assert total > 300, "standing still is 0"


METADRIVE = """
import gymnasium
import numpy as np


class MetaDriveEnv(gymnasium.Env):
    '''The spaces of MetaDrive's environment, and nothing of its roads.'''

    def __init__(self, config):
        assert config["use_render"] is False
        choices = config.get("discrete_action", False)
        self.action_space = gymnasium.spaces.Discrete(25) if choices else gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 1, (259,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.random(259, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self.np_random.random(259, np.float32), 1.0, self.steps == 10, False, {}
"""


def driving_in(tmp_path, task, configuration, **changes):
    """A tiny training of the example's task with one of its configurations."""
    values = read_yaml(Path(__file__).parents[2] / "examples" / configuration)
    size = {"num_envs": 2, "block_size": 2, "rollout_length": 32}
    if configuration == "driving_ppo.yaml":
        size |= {"num_minibatches": 2, "num_epochs": 1}
    else:  # whole episodes, of MetaDrive's at most
        size["rollout_length"] = 1000
    small = {"env": task, "total_env_steps": 128, "ppo": size, "log": {"every_updates": 1}}
    values = merge(merge(values, small), changes)
    del values["env_options"]
    return mjxppo.train_policy(values.pop("env"), config=values, run_dir=tmp_path / configuration)


@pytest.fixture
def no_driving():
    """Forgets the example's tasks and modules, which a test makes from modules of its own."""
    yield
    for name in ("Highway-v0", "HighwayContinuous-v0", "MetaDrive-v0", "MetaDriveDiscrete-v0"):
        gymnasium.registry.pop(name, None)
    for name in ("driving", "metadrive", "metadrive.envs"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("compiled_quickly", "no_driving")
@pytest.mark.parametrize("configuration", ["driving_ppo.yaml", "driving_reinforce.yaml"])
def test_metadrives_spaces_train_with_numbers_and_with_choices(tmp_path, monkeypatch, configuration):
    (tmp_path / "metadrive").mkdir()
    (tmp_path / "metadrive/__init__.py").touch()
    (tmp_path / "metadrive/envs.py").write_text(METADRIVE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for task in ("MetaDrive-v0", "MetaDriveDiscrete-v0"):
        run = driving_in(tmp_path / task, f"gymnasium:driving:{task}", configuration)
        returns = [row["episode_return"] for row in run.rows if row["episode_return"] is not None]
        assert returns and set(returns) == {10}
        assert run.policy(np.zeros(259)).shape == ((2,) if task == "MetaDrive-v0" else ())


@pytest.mark.usefixtures("compiled_quickly", "no_driving")
def test_the_highway_trains(tmp_path):
    pytest.importorskip("highway_env")
    run = driving_in(tmp_path, "gymnasium:driving:Highway-v0", "driving_ppo.yaml")
    assert run.rows[-1]["env_steps"] == 128 and 0 <= run.policy(np.zeros(25)) < 5


@pytest.mark.usefixtures("no_driving")
def test_without_the_simulator_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "metadrive", None)
    with pytest.raises(UserError, match=r"^env: .*pip install metadrive-simulator") as refused:
        mjxppo.train_policy("gymnasium:driving:MetaDrive-v0", total_env_steps=128)
    assert "\n" not in str(refused.value)


def test_the_quadruped_does_what_it_is_commanded_to_do():
    import quadruped

    policy = Path(__file__).parents[2] / "docs/policies/quadruped_seed1000.npz"
    measured = quadruped.motions(str(policy))
    assert np.abs(np.array(measured) - quadruped.COMMANDS).max() < 0.1
