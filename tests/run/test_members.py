"""Several policies in one program: each is what it would be alone, and is found, evaluated and drawn by itself."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from test_train import SMALL, final_arrays, logged, working_directory  # noqa: F401
from toy import PointMass

from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.schema import Config, LogConfig, PolicyConfig, PpoConfig
from mjxppo.config.sweep import SWEPT, members_of, trains_several
from mjxppo.config.values import read_yaml
from mjxppo.envs import Environment
from mjxppo.errors import UserError
from mjxppo.policy import scores
from mjxppo.ppo import counters, placement
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run.arrays import named_arrays
from mjxppo.run.directory import open_run_dir, run_of_member
from mjxppo.run.load import load, load_all
from mjxppo.run.metrics import MetricsWriter

PPO = PpoConfig(num_envs=32, block_size=4, rollout_length=8, num_minibatches=4, num_epochs=2, learning_rate=3e-3)


def trained(num_devices: int = 1, ppo: PpoConfig = PPO, total: int = 5 * 256 + 33, **fields) -> dict[str, np.ndarray]:
    """The state after a whole small run."""
    config = Config(
        env="point_mass",
        num_devices=num_devices,
        policy=PolicyConfig(hidden_sizes=(16, 16)),
        ppo=ppo,
        log=LogConfig(every_updates=3),
        **fields,
    )
    program = TrainingProgram(Environment(PointMass()), config)
    state, budget = program.init(), program.budget(total)
    for _ in range(2):
        state, _ = program.train_chunk(state, budget)
    steps = jax.tree.map(lambda x: x.ravel()[-1], state.env_steps)
    assert counters.to_int(steps) == total
    return named_arrays(state)


def member(arrays: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in arrays.items()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("num_devices", [1, 2])
def test_seeds_trained_in_turn_are_to_the_bit_what_they_are_alone(num_devices, monkeypatch):
    monkeypatch.setattr(placement, "VECTORIZED_WORLDS", 1)
    together, alone = trained(num_devices, seed=7, num_seeds=2), trained(num_devices, seed=8)
    for name, values in alone.items():
        np.testing.assert_array_equal(member(together, 1)[name], values, err_msg=name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("num_devices", [1, 2])
def test_vectorised_seeds_are_what_they_are_alone_to_rounding(num_devices):
    together = trained(num_devices, seed=7, num_seeds=2, total=256)
    alone = trained(num_devices, seed=8, total=256)
    for name, values in alone.items():
        np.testing.assert_allclose(member(together, 1)[name], values, rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_grid_trains_every_combination_with_its_own_settings():
    grid = {"ppo.learning_rate": (1e-3, 1e-2), "ppo.gamma": (0.9, 0.99)}
    together = trained(grid=grid, total=256)
    points = [(rate, gamma) for rate in grid["ppo.learning_rate"] for gamma in grid["ppo.gamma"]]
    for i, (rate, gamma) in list(enumerate(points))[1:3]:
        alone = trained(ppo=dataclasses.replace(PPO, learning_rate=rate, gamma=gamma), total=256)
        for name, values in alone.items():
            np.testing.assert_allclose(member(together, i)[name], values, rtol=2e-3, atol=2e-5, err_msg=name)
    heads = together["learner/params/params/critic/head/kernel"]
    assert len({head.tobytes() for head in heads}) == 4


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_every_setting_that_may_be_swept_can_be():
    ppo = dataclasses.replace(PPO, loss="kl_penalty", learning_rate_schedule="adaptive_kl", entropy_coef=0.01)
    grid = {f"ppo.{field}": (0.9 * getattr(ppo, field),) for field in SWEPT}
    changed = dataclasses.replace(ppo, **{field: 0.9 * getattr(ppo, field) for field in SWEPT})
    together, alone = trained(ppo=ppo, grid=grid, total=256), trained(ppo=changed, total=256)
    for name, values in alone.items():
        np.testing.assert_allclose(member(together, 0)[name], values, rtol=2e-3, atol=2e-5, err_msg=name)


def test_members_are_named_by_what_sets_them_apart():
    config = Config(env="hopper", seed=3, num_seeds=2, grid={"ppo.learning_rate": (1e-4, 1e-3)})
    found = members_of(config)
    assert [one.name for one in found] == [
        "learning_rate-0.0001_seed-3",
        "learning_rate-0.0001_seed-4",
        "learning_rate-0.001_seed-3",
        "learning_rate-0.001_seed-4",
    ]
    assert [one.config.ppo.learning_rate for one in found] == [1e-4, 1e-4, 1e-3, 1e-3]
    assert all(not trains_several(one.config) for one in found)
    assert members_of(Config(env="hopper"))[0].name == ""
    close = members_of(Config(env="hopper", grid={"ppo.gamma": (0.9999999, 0.99999999)}))
    assert [one.name for one in close] == ["gamma-0.9999999_seed-0", "gamma-0.99999999_seed-0"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"grid": {"ppo.num_envs": [64, 128]}},
            "ppo.num_envs cannot be swept in one program; choose",
        ),
        ({"grid": {"gamma": [0.9]}}, "gamma cannot be swept"),
        ({"grid": {"ppo.gamma": []}}, "needs one or more different values"),
        ({"grid": {"ppo.gamma": [0.9, 0.9]}}, "needs one or more different values"),
        ({"grid": {"ppo.gamma": [0.9, 1.5]}}, "ppo.gamma: input should be less than or equal to 1"),
        ({"grid": {"ppo.gamma": "abc"}}, "grid.ppo.gamma"),
        ({"num_seeds": 0}, "num_seeds"),
        ({"seed": 2**32 - 2, "num_seeds": 3}, "beyond 2"),
        ({"num_seeds": 4000, "grid": {"ppo.gamma": [0.9, 0.99]}}, "too many"),
        ({"grid": {f"ppo.{name}": [i / 1e3 for i in range(1, 999)] for name in SWEPT}}, "too many"),
    ],
)
def test_what_cannot_be_trained_together_is_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as error:
        make_config({"env": "hopper", **fields})
    assert "\n" not in str(error.value)


def train(*arguments: str, command: str = "train") -> int:
    return cli.main([command, *SMALL, "--total-env-steps", "12288", "--num-devices", "2", *arguments])


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_each_seed_has_a_directory_like_that_of_a_run_of_its_own(working_directory, capsys):  # noqa: F811
    assert train("--run-dir", "run", "--seed", "5", "--num-seeds", "2", "--eval.episodes", "2") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["new_env_steps"] == 2 * 12288
    assert summary["eval"]["groups"][0]["policies"] == ["seed-5", "seed-6"]
    assert train("--run-dir", "alone", "--seed", "6", "--eval.episodes", "2") == 0
    own, alone = working_directory / "run" / "seed-6", working_directory / "alone"
    assert len(logged(own)) == 12
    assert [row["env_steps"] for row in logged(own)] == [row["env_steps"] for row in logged(alone)]
    assert read_yaml(own / "config.yaml") == read_yaml(alone / "config.yaml")
    assert (
        json.loads((own / "eval.json").read_text())["seeds"] == json.loads((alone / "eval.json").read_text())["seeds"]
    )
    assert [one.run_dir.name for one in load_all(working_directory / "run")] == ["seed-5", "seed-6"]
    named = load(own)
    assert named.run_dir == own
    assert named.config.seed == 6
    np.testing.assert_array_equal(
        named.arrays["learner/params/params/actor/mlp/head/kernel"],
        final_arrays("run")["learner/params/params/actor/mlp/head/kernel"][1],
    )


def test_one_policy_of_a_run_is_not_resumed_by_itself(working_directory, capsys):  # noqa: F811
    config = Config(env="hopper", num_seeds=2)
    with open_run_dir(working_directory / "run", config, resume=False):
        pass
    metrics = working_directory / "run" / "seed-1" / "metrics.jsonl"
    metrics.write_text("precious\n")
    assert cli.main(["train", "--resume", "--run-dir", "run/seed-1"]) == 2
    error = capsys.readouterr().err
    assert "run/seed-1 is one policy of a run" in error and error.rstrip().endswith(str(working_directory / "run"))
    assert metrics.read_text() == "precious\n"
    assert run_of_member(working_directory / "run" / "seed-1") == working_directory / "run"
    assert run_of_member(working_directory / "run") is None


@pytest.mark.usefixtures("compiled_quickly")
def test_several_policies_resume_to_the_same_bits(working_directory, monkeypatch):  # noqa: F811
    class Crash(Exception):
        pass

    write, calls = MetricsWriter.write, []

    def crash(self, rows):
        write(self, rows)
        calls.append(1)
        if len(calls) == 5:  # one policy's metrics are written, the other's are not
            raise Crash

    assert train("--run-dir", "whole", "--num-seeds", "2") == 0
    monkeypatch.setattr(MetricsWriter, "write", crash)
    with pytest.raises(Crash):
        train("--run-dir", "broken", "--num-seeds", "2")
    monkeypatch.setattr(MetricsWriter, "write", write)
    assert cli.main(["train", "--resume", "--run-dir", "broken"]) == 0
    whole, resumed = final_arrays("whole"), final_arrays("broken")
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)
    for seed in ("seed-0", "seed-1"):
        assert logged(f"whole/{seed}") == logged(f"broken/{seed}")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_a_sweep_ends_with_a_table_and_is_evaluated_and_drawn_policy_by_policy(working_directory, capsys):  # noqa: F811
    grid = ("--grid", "ppo.learning-rate=1e-3,1e-4", "--num-seeds", "2")
    assert train("--run-dir", "run", *grid, "--eval.episodes", "2", command="sweep") == 0
    captured = capsys.readouterr()
    groups = json.loads(captured.out)["eval"]["groups"]
    assert [group["settings"]["ppo.learning_rate"] for group in groups] == [1e-3, 1e-4]
    assert "learning_rate  seeds" in captured.err
    assert cli.main(["evaluate", "run", "--engine", "own", "--episodes", "2"]) == 0
    assert len(json.loads(capsys.readouterr().out)["policies"]) == 4
    assert cli.main(["evaluate", "run/learning_rate-0.001_seed-1", "--engine", "own", "--episodes", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert cli.main(["plot", "run", "--y", "approx_kl"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert [curve["seeds"] for curve in drawn["curves"]] == [[0, 1], [0, 1]]
    assert drawn["path"].endswith("run/curves.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say what to vary"),
        (["--grid", "ppo.gamma"], "grid: takes NAME=VALUE, such as --grid ppo.gamma=0.9,0.99"),
        (["--grid", "ppo.gamma=a,b"], "grid.ppo.gamma.0: input should be a valid number"),
        (["--grid"], "--grid: expected one argument"),
        (["--grid", "ppo.gamma=0.9,0.99", "--grid=ppo.gamma=1"], "given twice"),
        (["--grid", "ppo.num_epochs=1,2"], "cannot be swept"),
    ],
)
def test_a_bad_grid_is_one_line_and_exit_code_2(options, message, working_directory, capsys):  # noqa: F811
    assert cli.main(["sweep", *SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(working_directory.iterdir())


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert scores.interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0])) == 2.0
    low, high = scores.iqm_interval([10.0, 11.0, 12.0, 13.0, 14.0])
    assert 10 <= low < 12 < high <= 14
    assert scores.iqm_interval([3.0]) is None
    assert scores.iqm_interval([3.0, 3.0]) is None
