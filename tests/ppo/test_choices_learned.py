"""Learning with choices: bandits whose optimum is known, by every algorithm, with numbers beside and masks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Bandit

import mjxppo
from mjxppo import cli
from mjxppo.config.layers import resolve
from mjxppo.config.values import merge
from mjxppo.errors import UserError
from mjxppo.ppo import networks
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import start

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {
    "ppo": {
        "num_envs": 64,
        "block_size": 64,
        "rollout_length": 4,
        "stagger_resets": False,
        "normalize_obs": False,
        "gamma": 1.0,
        "learning_rate": 0.02,
        "learning_rate_schedule": "constant",
    },
    "policy": {"hidden_sizes": [8], "init_log_std": -0.5, "min_log_std": -3.0},
    "log": {"every_updates": 60, "tensorboard": False},
}
PPO = {"ppo": {"num_minibatches": 2, "num_epochs": 4}}
ALGORITHMS = {
    "ppo": PPO,
    "trpo": {"algorithm": "trpo", "ppo": {"max_kl": 0.02}, "critic": {"epochs": 5, "num_minibatches": 1}},
    "kl_penalty": merge(PPO, {"ppo": {"loss": "kl_penalty", "target_kl": 0.05, "max_kl": 0.2, "entropy_coef": 1e-3}}),
    "adaptive": merge(PPO, {"ppo": {"learning_rate_schedule": "adaptive_kl", "kl_stop": "step", "max_kl": 0.2}}),
    "a2c": {"algorithm": "a2c"},
    "vpg": {"algorithm": "vpg", "critic": {"epochs": 5, "num_minibatches": 1}},
    "reinforce": {"algorithm": "reinforce", "reinforce": {"baseline": "constant"}},
}
FIRST = ("ppo", "trpo")


def trained(task: Bandit, changes: dict[str, Any], updates: int) -> tuple[TrainingProgram, Any, dict[str, np.ndarray]]:
    config = resolve("bandit", merge(merge(SMALL, changes), {"log": {"every_updates": updates}}))
    program = start.build(config, task)
    state, metrics = program.train_chunk(program.init(), program.budget(10**9))
    return program, state, jax.device_get(metrics)


def probabilities(program: TrainingProgram, state: Any, mask: np.ndarray | None = None) -> np.ndarray:
    """Of each arm where the best one works, and where it is out of order, [2, arms]."""
    obs = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    outputs = networks.apply_policy(program.network, state.learner.params, obs, mask)
    return np.asarray(jax.nn.softmax(outputs[-1]))


MARKED = [pytest.param(name, marks=() if name in FIRST else pytest.mark.exhaustive) for name in ALGORITHMS]


@pytest.mark.parametrize("name", MARKED)
def test_each_algorithm_finds_the_best_arm_and_number_and_obeys_the_mask(name):
    program, state, metrics = trained(Bandit(), ALGORITHMS[name], updates=100)
    _, batch, _ = program.rollout_only(state, jnp.int32(256))
    acted = np.asarray(batch.valid)  # with reinforce a world waits after its episode
    arm = np.asarray(batch.u[..., -1])[acted].astype(int)
    broken = np.asarray(batch.obs[..., 0])[acted] == 1
    assert 0.3 < broken.mean() < 0.7 and (arm[broken] != 1).all(), "what the mask forbids is never drawn"
    assert (arm[~broken] == 1).mean() > 0.9 and (arm[broken] == 2).mean() > 0.9
    number = np.tanh(np.asarray(batch.u[..., 0]))[acted]
    assert abs(np.median(number) - 0.5) < 0.25
    assert np.isfinite(metrics["policy_loss"]).all() and np.isfinite(metrics["entropy"]).all()
    assert metrics["skipped_gradient_steps"].sum() == 0


@pytest.mark.exhaustive
def test_an_entropy_bonus_leads_to_the_softmax_of_the_worths():
    """The maximum of sum p r + c H(p) is p ~ exp(r / c)."""
    worth, coef = (0.0, 1.0, 0.6, 0.2), 0.5
    bonus = {"ppo": {"entropy_coef": coef, "advantage_normalization": "none", "normalize_returns": False}}
    slow = {"ppo": {"num_envs": 512, "block_size": 512, "learning_rate": 0.01, "learning_rate_schedule": "linear"}}
    changes = merge(merge(PPO, bonus), slow) | {"total_env_steps": 120 * 2048}
    config = resolve("bandit", merge(merge(SMALL, changes), {"log": {"every_updates": 120}}))
    program = start.build(config, Bandit(worth, number=False, breaks=False))
    state, metrics = program.train_chunk(program.init(), program.budget(config.total_env_steps))
    best = np.exp(np.array(worth) / coef) / np.exp(np.array(worth) / coef).sum()
    np.testing.assert_allclose(probabilities(program, state)[0], best, atol=0.03)
    # What is logged is the entropy of the policy that acted.
    assert float(metrics["entropy"][-1]) == pytest.approx(-(best * np.log(best)).sum(), abs=0.05)
    assert "std" not in metrics


def test_the_trust_region_bounds_the_divergence():
    program, _, metrics = trained(Bandit(number=False), ALGORITHMS["trpo"], updates=20)
    assert (metrics["trust_region_kl"] <= program.config.ppo.max_kl * 1.001).all()
    assert metrics["step_accepted"].sum() > 10 and metrics["trust_region_kl"].max() > 0.7 * program.config.ppo.max_kl


def test_a_policy_goes_on_from_another_with_the_same_actions_only(tmp_path, capsys):
    short = SMALL | {"total_env_steps": 2 * 256, "log": {"every_updates": 2, "tensorboard": False}}
    first = mjxppo.train_policy(Bandit(), config=short, run_dir=tmp_path / "first")
    source = {"path": str(tmp_path / "first"), "anchor_coef": 0.1}
    second = mjxppo.train_policy(Bandit(), config=short | {"init": source}, run_dir=tmp_path / "second")
    assert "reference_kl" in second.metrics[0]
    assert second.policy.actions.parts == first.policy.actions.parts == (1, (4,))
    for other, text in (
        (Bandit((0.0, 1.0, 2.0)), "1 number and a choice among 3"),
        (Bandit(number=False), "a choice among 4"),
    ):
        with pytest.raises(
            UserError, match=f"init.path: .* with actions of 1 number and a choice among 4, .* {text}$"
        ) as no:
            mjxppo.train_policy(other, config=short | {"init": source}, run_dir=tmp_path / "third")
        assert "\n" not in str(no.value) and not (tmp_path / "third").exists()


@pytest.mark.exhaustive
def test_a_student_learns_its_teachers_choices(tmp_path):
    run = SMALL | PPO | {"total_env_steps": 60 * 256}
    run = merge(run, {"ppo": SMALL["ppo"] | PPO["ppo"], "log": {"every_updates": 30}})
    mjxppo.train_policy(Bandit(), config=run, run_dir=tmp_path / "teacher")
    fields = {"distill": {"teacher": str(tmp_path / "teacher"), "until": 0.1}, "total_env_steps": 60 * 256}
    student = mjxppo.train_policy(Bandit(), run_dir=tmp_path / "student", **fields)
    assert student.metrics[-1]["reference_kl"] < 0.05 < student.metrics[0]["reference_kl"]
    teacher = mjxppo.load_policy(tmp_path / "teacher")
    obs = np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal(student.policy(obs)[:, 1], teacher(obs)[:, 1])


@pytest.mark.parametrize("option", [pytest.param("--env=cartpole", id="cartpole")])
def test_a_task_of_choices_has_no_physics_to_choose(option, capsys, tmp_path):
    assert cli.main(["train", option, "--physics.backend=planar", f"--run-dir={tmp_path}/run"]) == 2
    assert "physics.backend: cartpole has no MuJoCo model that planar could simulate" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
