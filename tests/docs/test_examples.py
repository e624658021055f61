"""Other people's trainers on our vector environment; they need PyTorch, which is no dependency."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from toy import PointMass

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
    returns = [row["episode_return"] for row in scope["run"].metrics if row["episode_return"] is not None]
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
