"""A study trains every variant once, goes on where it was, and ends with curves and a table."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from mjxppo import cli
from mjxppo.analysis import study
from mjxppo.analysis.plot.curves import recent_returns, steps_to_return
from mjxppo.config.schema import Config
from mjxppo.config.values import configs_dir, to_yaml
from mjxppo.errors import UserError
from mjxppo.files import write_json
from mjxppo.run.directory import EVAL

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SMALL = {
    "env": "brax:fast",
    "total_env_steps": 4096,
    "ppo": {"num_envs": 32, "block_size": 16, "rollout_length": 16, "num_minibatches": 4, "num_epochs": 1},
    "log": {"tensorboard": False},
    "eval": {"episodes": 2, "video": False},
}
STUDY = {
    "question": "Does it run?",
    "num_seeds": 2,
    "settings": {"fast": SMALL},
    "variants": {"low": {"ppo": {"learning_rate": 1e-4}}, "high": {"ppo": {"learning_rate": 1e-3}}},
    "metrics": ["approx_kl"],
    "target_return": -1e9,
}


@pytest.mark.exhaustive
def test_a_study_is_trained_drawn_and_tabled_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY))
    assert cli.main(["study", "mine.yaml"]) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert set(content["results"]["fast"]) == {"low", "high"}
    assert [Path(plot).name for plot in content["plots"]] == ["fast.png"]
    assert Path(content["plots"][0]).stat().st_size > 10_000
    assert all(len(result["steps_to_target"]) == 2 for result in content["results"]["fast"].values())
    assert "| low | " in captured.err and "| high | " in captured.err
    trained = Path("runs/studies/mine/fast/low/ckpt").stat().st_mtime_ns
    assert cli.main(["study", "mine.yaml"]) == 0
    assert Path("runs/studies/mine/fast/low/ckpt").stat().st_mtime_ns == trained, "what is done is not done again"
    assert json.loads(capsys.readouterr().out) == content
    assert "Does it run?" in Path("runs/studies/mine/results.md").read_text()


@pytest.mark.parametrize("path", sorted((configs_dir() / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_hold_runs_that_differ_in_their_variants_only(path):
    read = study.read_study(path)
    runs = list(study.configurations(read))
    assert len(runs) == len(read.settings) * len(read.variants)
    assert all(config.num_seeds == 5 for _, _, config in runs)
    assert len({to_yaml(config) for _, _, config in runs}) >= len(runs) - len(read.settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, "needs settings, variants"),
        ({"num_seeds": 1}, "num_seeds of at least 2"),
        ({"questions": "?"}, "questions: no such field"),
        ({"settings": {"fast": {"total_env_steps": 1}}}, "settings.fast names no env"),
        (
            {"variants": {"bad": {"ppo": {"gama": 0.9}}}},
            "fast with bad: ppo.gama: no such field; did you mean ppo.gamma?",
        ),
        ({"num_seeds": "many"}, "num_seeds"),
        ({"perturb": {"grids": {"a": ["mass=2:1"]}}}, "the range of mass must be from a smaller to a larger number"),
        ({"perturb": {"grids": {"a": ["mass=1:2", "mass=1:2"]}}}, "one quantity, or two different ones"),
        ({"perturb": {"grids": {"a": ["mass=1:2"]}, "episodes": 0}}, "perturb.episodes: must be at least 1"),
        ({"perturb": {"grids": {"a": ["mass=1:2"]}, "points": 1}}, "perturb_points: must be at least 2"),
        ({"variants": {"blind": {"eval": {"episodes": 0}}}}, "fast with blind: eval.episodes: must be at least 1"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_trained(tmp_path, changes, message):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    with pytest.raises(UserError, match=r"study|perturb") as error:
        study.read_study(path)
    assert message in str(error.value)


def test_runs_of_other_settings_are_not_taken_for_the_studys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    read = study.read_study(path)
    for setting, variant, config in study.configurations(read):
        run = tmp_path / "out" / setting / variant
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(to_yaml(config))
        (run / "eval.json").write_text("{}")
        study._train(run, config)  # is done
    path.write_text(yaml.safe_dump(STUDY | {"num_seeds": 3}))
    with pytest.raises(UserError, match="was trained with other settings than the study has now"):
        study.run_study(study.read_study(path), tmp_path / "out")


def stand(obs):
    """A policy that lets all joints go limp."""
    return np.zeros((len(obs), 3))


@pytest.mark.exhaustive
def test_a_study_compares_its_policies_on_robots_that_differ(tmp_path, monkeypatch):
    group = {"iqm": 1.0, "iqm_ci95": None, "mean": 1.0, "worst": 1.0, "means": [1.0, 1.0]}
    loaded = types.SimpleNamespace(policy=stand, config=Config(env="hopper"))

    def trained(path, config):
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / EVAL, {"groups": [group]})

    monkeypatch.setattr(study, "_train", trained)
    monkeypatch.setattr(study, "_draw", lambda *_: [])
    monkeypatch.setattr(study, "load_all", lambda _: [loaded, loaded])
    grids = {"heavy": ["gravity=0.5:1.5", "mass=0.5:2"], "limp": ["strength=0.5:1"]}
    values = STUDY | {
        "settings": {"hop": {"env": "hopper", "seed": 7}},
        "variants": {"nominal": {}, "noisy": {"config": "hopper_randomized"}},
        "perturb": {"grids": grids, "points": 2, "episodes": 1},
    }
    path = tmp_path / "robust.yaml"
    path.write_text(yaml.safe_dump(values))
    read = study.read_study(path)
    configs = {variant: config for _, variant, config in study.configurations(read)}
    assert {variant: config.randomize.on for variant, config in configs.items()} == {"nominal": False, "noisy": True}
    assert {config.seed for config in configs.values()} == {7}
    content = study.run_study(read, tmp_path / "out")
    perturbed = content["perturbed"]["hop"]
    assert np.shape(perturbed["heavy"]["grids"]["noisy"]["share"]) == (2, 2)
    assert len(perturbed["limp"]["grids"]["nominal"]["policies"]) == 2
    assert all(Path(grid["plot"]).stat().st_size > 10_000 for grid in perturbed.values())
    assert "| heavy | noisy | " in (tmp_path / "out/results.md").read_text()
    evaluated = (tmp_path / "out/hop/noisy/heavy.json").stat().st_mtime_ns
    assert study.run_study(read, tmp_path / "out") == content
    assert (tmp_path / "out/hop/noisy/heavy.json").stat().st_mtime_ns == evaluated, "what is done is not done again"


def test_an_unknown_study_names_the_shipped_ones():
    with pytest.raises(
        UserError,
        match="shipped: advantage_normalization, algorithm, final, finetuning, gradients, implementation, n",
    ):
        study.find_study("nothing")


def test_a_target_is_reached_by_the_last_episodes_not_by_a_lucky_first_handful():
    counts_and_returns = [(0, None), (10, 9000.0), (10, 1000.0), (20, 6000.0), (20, 8000.0)]
    rows = [{"env_steps": i, "episodes": n, "episode_return": value} for i, (n, value) in enumerate(counts_and_returns)]
    np.testing.assert_allclose(recent_returns(rows, 20), [-np.inf, -np.inf, 5000, 6000, 8000])
    assert steps_to_return(rows, 5000, 20) == 2 and steps_to_return(rows, 8001, 20) is None
