"""What a run says: where it goes on, another budget, solver settings that have no effect, a long compilation."""

from __future__ import annotations

import time
from pathlib import Path

import gymnasium
import mujoco
import pytest
from toy import PointMass

import mjxppo
from mjxppo import console, envs, physics
from mjxppo.config.check import make_config
from mjxppo.errors import UserError
from mjxppo.physics.mjx import MjxWarpPhysics
from mjxppo.ppo.schedules import fields_over_the_budget
from mjxppo.run.start import say_what

HOPPER = Path(gymnasium.__file__).parent / "envs/mujoco/assets/hopper.xml"
TINY = {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 1}


@pytest.mark.usefixtures("compiled_quickly")
def test_a_resumed_run_says_where_it_goes_on_and_what_a_new_budget_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def lines(total: int) -> list[str]:
        capsys.readouterr()
        mjxppo.train_policy(PointMass(), run_dir="run", resume=Path("run").exists(), ppo=TINY, total_env_steps=total)
        told = capsys.readouterr().err.splitlines()
        return [line for line in told if line.startswith(("going on", "total_env_steps", "its budget"))]

    assert lines(512) == []
    assert lines(1024) == [
        "going on from checkpoint 2, at 512 of 1,024 environment steps",
        "total_env_steps: 1,024, a new budget, after 512; stretched over it: ppo.learning_rate_schedule",
    ]
    assert lines(600) == [
        "going on from checkpoint 4, at 1,024 of 600 environment steps",
        "its budget is used up; a larger total_env_steps trains on",
    ]


def test_schedules_that_run_over_the_budget_are_known_by_name():
    constant = {"env": "hopper", "ppo": {"learning_rate_schedule": "adaptive_kl"}}
    assert fields_over_the_budget(make_config(constant)) == []
    every = {
        "env": "hopper",
        "ppo": {"learning_rate_schedule": "linear"},
        "policy": {"std": "state_independent", "final_min_log_std": -1.5},
        "distill": {"teacher": "runs/teacher"},
    }
    named = ["ppo.learning_rate_schedule", "policy.final_min_log_std", "distill.until"]
    assert fields_over_the_budget(make_config(every)) == named


@pytest.fixture
def with_option(tmp_path):
    def write(**option) -> str:
        text = " ".join(f'{name}="{value}"' for name, value in option.items())
        path = tmp_path / "mine.xml"
        path.write_text(HOPPER.read_text().replace("<option ", f"<option {text} "))
        return str(path)

    return write


def test_solver_settings_of_a_file_that_have_no_effect_are_named(with_option, capsys):
    say_what(envs.make("hopper", xml_file=with_option()).task)
    assert len(capsys.readouterr().err.splitlines()) == 1, "it has none"
    path = with_option(solver="CG", iterations=4, ls_iterations=6, tolerance="1e-4", impratio=2)
    say_what(envs.make("hopper", xml_file=path).task)
    first, second = capsys.readouterr().err.splitlines()
    named = "solver=CG iterations=4 tolerance=0.0001 ls_iterations=6"
    assert second.startswith(f"{path}: option {named}: not followed in training") and "simulated by" in first
    assert MjxWarpPhysics.follows_solver_settings, "MuJoCo Warp's solver is the model's"


def test_noslip_iterations_which_change_the_result_are_refused(with_option):
    model = mujoco.MjModel.from_xml_path(with_option(noslip_iterations=3))
    for backend in ("auto", "mjx"):
        with pytest.raises(UserError, match="noslip_iterations 3"):
            physics.make(model, backend)


def test_a_long_wait_is_said_once_where_there_is_no_terminal(capsys):
    with console.waiting("compiling"):
        time.sleep(0.05)
    with console.waiting("compiling", say_after_s=100):
        pass
    assert capsys.readouterr().err == ""
    with console.waiting("compiling", say_after_s=0.01):
        time.sleep(1)
    assert capsys.readouterr().err == "compiling: 0.0 s so far\n", "and again after 30 s"


def test_the_options_of_an_environment_that_is_handed_in_are_the_runs():
    from mjxppo.run.session import configuration_of

    made = envs.make("gymnasium:Pendulum-v1", g=5.0)
    config, _ = configuration_of({}, made)
    assert config.env_options == {"g": 5.0}, "which its evaluation is made with"
    with pytest.raises(UserError, match=r"^env_options.g: config.yaml cannot hold a Path2D"):
        made.task.made_with = {"g": type("Path2D", (), {})()}
        configuration_of({}, made)
