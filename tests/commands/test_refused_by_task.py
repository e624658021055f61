"""Options of evaluate, render, report and distill that a foreign task cannot do: one line, exit code 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mjxppo import cli
from mjxppo.config.schema import Config
from mjxppo.config.values import to_yaml
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import evaluate
from mjxppo.policy.npz import to_npz
from mjxppo.policy.policy import Policy

SIZES = {"gymnasium:Pendulum-v1": (3, 1), "brax:fast": (2, 1), "point_mass": (3, 2)}
HOST, BRAX, CUSTOM = SIZES


@pytest.fixture(autouse=True)
def policies(tmp_path, monkeypatch):
    """An exported policy of each task, and a run of each that has logged an update."""
    monkeypatch.chdir(tmp_path)
    for name, (inputs, outputs) in SIZES.items():
        layers = ((np.zeros((inputs, outputs), "f"), np.zeros(outputs, "f")),)
        policy = Policy(np.zeros(inputs, "f"), np.ones(inputs, "f"), 10.0, layers, "tanh")
        stem = name.partition(":")[0]
        Path(f"{stem}.npz").write_bytes(to_npz(policy, name, {}))
        Path(stem).mkdir()
        Path(stem, "config.yaml").write_text(to_yaml(Config(env=name)))
        Path(stem, "metrics.jsonl").write_text('{"update": 1, "env_steps": 8}\n')


MASS = ("--perturb", "mass=0.9:1.1")
UNKNOWN = "there is no task 'point_mass'"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("evaluate", "gymnasium.npz", *MASS), f"perturb: {HOST} is no MuJoCo environment"),
        (("evaluate", "gymnasium.npz", *MASS, "--perturb", "slope=-1:1"), f"perturb: {HOST} is no MuJoCo"),
        (("evaluate", "brax.npz", *MASS), f"perturb: changes robots in Gymnasium's C MuJoCo, which {BRAX}"),
        (("evaluate", "point_mass.npz", *MASS), "perturb: changes robots in Gymnasium's C MuJoCo, which point_mass"),
        (("evaluate", "brax.npz"), "engine: Gymnasium has no counterpart of brax:fast; use --engine own"),
        (("evaluate", "gymnasium.npz", "--engine", "planar"), f"engine: {HOST} is not simulated by planar; use"),
        (("evaluate", "brax.npz", "--engine", "mjx"), f"engine: {BRAX} is not simulated by mjx; use --engine own"),
        (("evaluate", "point_mass.npz", "--engine", "own"), UNKNOWN),
        (("render", "gymnasium.npz"), "Pendulum-v1 is not a MuJoCo environment, so it cannot be drawn"),
        (("render", "brax.npz"), "render: only Gymnasium's tasks can be filmed, not brax:fast"),
        (("render", "point_mass.npz"), "render: only Gymnasium's tasks can be filmed, not point_mass"),
        (("report", "gymnasium", "--split"), f"env: {HOST} is simulated on the host, where single parts"),
        (("report", "point_mass", "--split"), UNKNOWN),
        (("evaluate", "brax"), "brax: this run has no checkpoint yet; wait"),
        (("render", "gymnasium"), "gymnasium: this run has no checkpoint yet; wait"),
        (("export", "brax/"), "brax: this run has no checkpoint yet; wait"),
        (("distill", "gymnasium"), "gymnasium: this run has no checkpoint yet; wait"),
    ],
)
def test_it_is_one_line(arguments, message, capsys):
    assert cli.main([*arguments, *(("--episodes", "1") if arguments[0] == "evaluate" else ())]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.splitlines()) == 1 and not printed.out
    assert not list(Path().glob("**/split.json")) and not Path("runs").exists()


def test_a_run_whose_first_save_is_not_complete_has_no_checkpoint_yet(capsys):
    Path("brax/ckpt/5/state").mkdir(parents=True)
    for command in ("evaluate", "render", "export"):
        assert cli.main([command, "brax"]) == 2
        assert "this run has no checkpoint yet (its first save is under way, or was interrupted)" in (
            printed := capsys.readouterr().err
        )
        assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("command", ["report", "plot"])
def test_a_run_that_has_logged_nothing_says_so(command, capsys):
    Path("brax/metrics.jsonl").unlink()
    assert cli.main([command, "brax"]) == 2
    assert capsys.readouterr().err == "mjxppo: brax: this run has logged nothing yet; wait for its first updates\n"


def test_changes_of_a_model_are_not_ignored_in_another_engine():
    with pytest.raises(UserError, match="perturb: changes robots in Gymnasium's C MuJoCo, which planar does not use"):
        evaluate(lambda obs: obs[:, :3], Config(env="hopper"), "planar", 1, 0, {"mass": 2.0})
