"""Evaluations while training: their rows, the best policy, the end that they bring, clips; kills at any moment."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from kill import TIMES
from toy import PointMass

import mjxppo
from mjxppo import cli, envs
from mjxppo.config.check import make_config
from mjxppo.config.schema import EvalConfig
from mjxppo.config.values import merge, read_yaml
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed
from mjxppo.policy.evaluate import evaluate, evaluate_in
from mjxppo.policy.on_device import DeviceEpisodes
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import best, checkpoint, evaluator, loop, pending, start
from mjxppo.run.checkpoint import CheckpointWriter
from mjxppo.run.load import load
from mjxppo.run.metrics import RETURN, MetricsWriter, read_all, read_evaluations, read_rows
from mjxppo.run.stopping import setting_that_ends

UPDATE = 64 * 8
STEPS = 11 * UPDATE + 5
SMALL = {
    "env": "point_mass",
    "total_env_steps": STEPS,
    "num_devices": 2,
    "policy": {"hidden_sizes": [8, 8]},
    "ppo": {"num_envs": 64, "block_size": 32, "rollout_length": 8, "num_minibatches": 2, "learning_rate": 3e-3},
    "log": {"every_updates": 2},
    "checkpoint": {"every_updates": 3},
    "eval": {"every_env_steps": 3 * UPDATE, "episodes_while_training": 4, "episodes": 0, "video": False},
}
AT = [4, 6, 10, 12]
"""Updates at which SMALL is evaluated: the ends of the device calls that reach a multiple of three updates, and the
end of training."""


def train(run_dir: Path, resume: bool = False, callbacks: loop.Callbacks | None = None, **changes) -> loop.Outcome:
    run_dir.mkdir(exist_ok=True)
    return loop.train(program_of(json.dumps(changes)), run_dir, resume, callbacks or loop.Callbacks())


@cache
def program_of(changes: str) -> TrainingProgram:
    """The program of SMALL with changes, as JSON; traced once."""
    return start.build(make_config(merge(SMALL, json.loads(changes))), envs.make(PointMass()))


def arrays(run_dir: Path) -> dict[str, bytes]:
    read = checkpoint.read(checkpoint.newest_whole_step(run_dir / "ckpt"))[0]
    return {name: array.tobytes() for name, array in read.items()}


def logged(run_dir: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(run_dir)]


def kept(run_dir: Path) -> tuple[str, dict, dict[str, bytes]]:
    """The best policy: its folder, evaluation and arrays."""
    step, row = best.read_best(run_dir)
    checkpoint.verify(step)
    return step.name, row, {name: array.tobytes() for name, array in checkpoint.read(step)[0].items()}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """A run of SMALL that nothing interrupts."""
    run_dir = tmp_path_factory.mktemp("left") / "run"
    assert train(run_dir, checkpoint={"every_updates": 1, "keep_latest": 99}).ended_by == "budget"
    return run_dir


def test_rows_are_of_the_parameters_at_fixed_steps_and_told_apart_from_training(left_alone):
    rows = read_evaluations(left_alone)
    assert [(row["update"], row["env_steps"]) for row in rows] == [(u, min(u * UPDATE, STEPS)) for u in AT]
    assert len(read_all(left_alone)) == len(rows) + len(read_rows(left_alone)) == 4 + 12
    assert not any(name.startswith("eval/") for row in read_rows(left_alone) for name in row)
    with (left_alone / "metrics.csv").open() as file:
        assert [int(row["update"]) for row in csv.DictReader(file)] == list(range(1, 13)), "its lines are updates"
    for row in rows:
        step = left_alone / "ckpt" / str(row["update"])
        policy = load(step).policy
        again = evaluate_in(envs.make(PointMass()), policy, 4, 1_000_000)  # step by step, with the policy on the host
        found = [row[f"eval/{name}"] for name in ("return_mean", "return_min", "return_max", "length_mean", "episodes")]
        assert found == pytest.approx([again[name] for name in ("mean", "min", "max", "length_mean", "episodes")])
    events = b"".join(path.read_bytes() for path in (left_alone / "tb").glob("events*"))
    assert events.count(b"eval/return_mean") == 4
    assert len({row[RETURN] for row in rows}) == 4, "it learns"


def test_the_best_policy_is_that_of_the_highest_row(left_alone):
    rows = read_evaluations(left_alone)
    name, row, own = kept(left_alone)
    assert row == max(rows, key=lambda row: row[RETURN]) and name == str(row["update"])
    saved = checkpoint.read(left_alone / "ckpt" / name)[0]
    assert own == {n: a.tobytes() for n, a in saved.items() if n.startswith("learner/")}, "all that was learned"
    assert [path.name for path in (left_alone / "best").iterdir()] == [name]


def test_training_has_the_same_bits_without_them(left_alone, tmp_path):
    train(tmp_path / "run", eval={"every_env_steps": 0})
    assert arrays(tmp_path / "run") == arrays(left_alone) and logged(tmp_path / "run") == logged(left_alone)
    assert not [name for name in ("best", "evaluations", "films") if (tmp_path / "run" / name).exists()]


MOMENTS = {
    "a request is on the disk": (pending, "write"),
    "a state is being saved": (CheckpointWriter, "save"),
    "a policy has become the best": (best, "keep_best"),
    "a row is written": (MetricsWriter, "write_evaluation"),
    "a request is done with": (pending, "remove"),
}


@pytest.mark.exhaustive
def test_killed_at_any_moment_it_makes_each_evaluation_once_and_ends_with_the_same_bits(
    left_alone, tmp_path, monkeypatch
):
    copies: dict[str, list[Path]] = {moment: [] for moment in MOMENTS}
    one_at_a_time = threading.RLock()  # a kill stops all threads at once, and a copy takes a moment

    def copying(moment, action):
        def act(*arguments):
            with one_at_a_time:
                result = action(*arguments)
                copies[moment].append(tmp_path / f"{moment} {len(copies[moment])}")
                if len(copies[moment]) == 2:
                    copy_run(tmp_path / "run", copies[moment][-1])
                return result

        return act

    with monkeypatch.context() as patched:
        for moment, (owner, name) in MOMENTS.items():
            patched.setattr(owner, name, copying(moment, getattr(owner, name)))
        train(tmp_path / "run")
    check_same(tmp_path / "run", left_alone)
    for made in copies.values():
        train(made[1], resume=True)
        check_same(made[1], left_alone)


def copy_run(run_dir: Path, to: Path) -> None:
    """Copies a run's directory; again where a checkpoint that was being written in the background was renamed."""
    for _ in range(20):
        try:
            shutil.copytree(run_dir, to)
            return
        except shutil.Error:
            shutil.rmtree(to)
    raise AssertionError("no copy could be made")


def check_same(run_dir: Path, left_alone: Path) -> None:
    assert arrays(run_dir) == arrays(left_alone) and logged(run_dir) == logged(left_alone)
    assert read_evaluations(run_dir) == read_evaluations(left_alone), "none lost, none twice"
    assert kept(run_dir) == kept(left_alone)
    assert not (run_dir / "evaluations").exists(), "nothing is under way"


def test_evaluations_that_were_under_way_at_a_signal_are_made_on_resume(left_alone, tmp_path, monkeypatch):
    def endless(self, policy):
        while True:
            policy.of_inputs(np.zeros((1, 3)))
            time.sleep(0.01)

    def interrupt(rows):
        if rows[-1]["update"] == 6:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(DeviceEpisodes, "__call__", endless)
        outcome = train(tmp_path / "run", callbacks=loop.Callbacks(metrics=interrupt))
    assert (outcome.exit_code, outcome.ended_by, outcome.updates) == (130, "signal", 6)
    assert sorted(path.name for path in (tmp_path / "run" / "evaluations").iterdir()) == ["4.npz", "6.npz"]
    assert read_evaluations(tmp_path / "run") == []
    train(tmp_path / "run", resume=True)
    check_same(tmp_path / "run", left_alone)


def test_a_return_that_is_reached_ends_the_run_at_the_evaluation_after_however_slow_it_is(
    left_alone, tmp_path, monkeypatch
):
    returns = [row[RETURN] for row in read_evaluations(left_alone)]
    wanted = {"stop_at_return": returns[0]}
    numbers = evaluator.Evaluator._numbers
    slow = lambda self, job: time.sleep(0.5) or numbers(self, job)  # noqa: E731
    copies = []

    def copy(step):
        copies.append(tmp_path / f"copy-{step.name}")
        copy_run(tmp_path / "run", copies[-1])

    with monkeypatch.context() as patched:
        patched.setattr(evaluator.Evaluator, "_numbers", slow)
        outcome = train(tmp_path / "run", eval=wanted, callbacks=loop.Callbacks(checkpoint=copy))
    assert (outcome.ended_by, outcome.exit_code, outcome.updates) == ("stop_at_return", 0, 6)
    assert [row["update"] for row in read_evaluations(tmp_path / "run")] == [4, 6], "the last state as well"
    for run_dir in (*copies, tmp_path / "run"):  # from a checkpoint before the end, and where it had ended
        assert train(run_dir, resume=True, eval=wanted).updates == 6
        assert arrays(run_dir) == arrays(tmp_path / "run")
    further = train(tmp_path / "run", resume=True, eval={"stop_at_return": 1e6})
    assert (further.ended_by, further.updates) == ("budget", 12), "another setting lets it go on"
    check_same(tmp_path / "run", left_alone)


def test_what_ends_a_run():
    def ends(returns, **settings):
        rows = [{RETURN: value} for value in returns]
        return setting_that_ends(EvalConfig(every_env_steps=1, **settings), [rows])

    assert ends([1, 5, 3], stop_at_return=5.0) == "stop_at_return" and ends([1, 4.9], stop_at_return=5.0) is None
    assert ends([1, 3, 3], patience=2) is None and ends([1, 3, 3, 2], patience=2) == "patience"
    assert ends([3, 1, 4, 1], patience=2) is None and ends([], patience=1) is None
    assert ends([None, None], patience=1) == "patience", "evaluations that failed are none that improve"
    some = [[{RETURN: 9.0}], [{RETURN: 1.0}]]
    assert setting_that_ends(EvalConfig(every_env_steps=1, stop_at_return=5.0), some) is None, "each of several"


@pytest.mark.usefixtures("compiled_quickly")
def test_patience_ends_a_run_with_exit_code_0_and_the_summary_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluator.Evaluator, "_numbers", lambda self, job: {RETURN: -float(job.update)})
    settings = merge(SMALL, {"env": "brax:fast"})
    Path("small.yaml").write_text(json.dumps(settings))
    assert cli.main(["train", "--config", "small.yaml", "--run-dir", "run", "--patience", "1"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["ended_by"] == "patience" and summary["newest"] == {"update": 10, "env_steps": 10 * UPDATE}
    expected = {"update": 4, "env_steps": 4 * UPDATE, "return_mean": -4.0, "path": "run/best/4"}
    assert summary["best"] == expected and summary == json.loads(Path("run/summary.json").read_text())
    assert "ended before its budget: the best evaluation was not exceeded by the 1 after it" in printed.err
    assert read_yaml(Path("run/config.yaml"))["eval"]["patience"] == 1
    assert cli.main(["watch", "run"]) == 0 and "complete" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_from_python_and_each_of_several_policies(left_alone, tmp_path):
    seen = []
    runs = mjxppo.train_policies(
        PointMass(), config=merge(SMALL, {"num_seeds": 2}), run_dir=tmp_path / "run", on_evaluation=seen.append
    )
    assert seen == runs[0].evaluations == read_evaluations(left_alone), "seed 0 is the run left alone"
    assert runs[1].evaluations != runs[0].evaluations and len(runs[1].evaluations) == 4
    obs = np.ones((5, 3))
    for run in runs:
        assert run.summary["best"][run.run_dir.name]["return_mean"] == max(row[RETURN] for row in run.evaluations)
        expected = load(run.run_dir, of_best_evaluation=True).policy
        assert np.array_equal(run.best(obs), expected(obs))
        assert np.array_equal(mjxppo.load_policy(run.run_dir, best=True)(obs), expected(obs))
    whole = load(tmp_path / "run", of_best_evaluation=True)
    assert best.return_of(best.row_of(whole.step)) == max(row[RETURN] for run in runs for row in run.evaluations)
    longer = merge(SMALL, {"total_env_steps": 4000 * UPDATE})
    stopped = mjxppo.train_policy(
        PointMass(), config=longer, run_dir=tmp_path / "stopped", on_evaluation=lambda row: row["update"] == 4
    )
    assert stopped.outcome.ended_by == "callback" and stopped.outcome.updates < 4000


def test_a_run_begins_with_the_best_policy_of_another(left_alone, tmp_path):
    shutil.copytree(left_alone, tmp_path / "source")
    (tmp_path / "source" / "config.yaml").write_text(json.dumps(SMALL))
    fields = {"init": {"path": str(tmp_path / "source"), "best": True}, "total_env_steps": UPDATE}
    tuned = mjxppo.train_policy(PointMass(), config=merge(SMALL, fields), run_dir=tmp_path / "tuned")
    name = kept(left_alone)[0]
    assert tuned.config.init.path == str((tmp_path / "source" / "best" / name).resolve())


def test_a_full_disk_costs_nothing_that_fits_later(left_alone, tmp_path, monkeypatch, capsys):
    keep, write, calls = best.keep_best, pending.write, []

    def fail_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise WriteFailed("no space for the best policy")
        keep(*arguments)

    def fail(*arguments):
        raise WriteFailed("no space for requests")

    monkeypatch.setattr(best, "keep_best", fail_once)
    monkeypatch.setattr(pending, "write", fail)
    train(tmp_path / "run")
    said = capsys.readouterr().err
    assert "no space for the best policy" in said and "no space for requests" in said
    monkeypatch.setattr(pending, "write", write)
    check_same(tmp_path / "run", left_alone)


@pytest.mark.usefixtures("compiled_quickly")
def test_in_c_mujoco_with_clips_and_the_report_shows_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ppo = {"num_envs": 8, "block_size": 8, "rollout_length": 8, "num_minibatches": 2}
    own = {"every_env_steps": 64, "video_every": 2, "episodes_while_training": 2}
    changes = {"env": "hopper", "total_env_steps": 256, "num_devices": 1, "ppo": ppo, "log": {"every_updates": 1}}
    Path("hopper.yaml").write_text(json.dumps(merge(SMALL, changes | {"eval": own})))
    assert cli.main(["train", "--config", "hopper.yaml", "--run-dir", "run"]) == 0
    rows = read_evaluations(Path("run"))
    loaded = load(Path("run"), of_best_evaluation=True)
    again = evaluate(loaded.policy, loaded.config, "gymnasium", 2, 1_000_000)
    assert again["mean"] == max(row[RETURN] for row in rows) and len(rows) == 4
    assert sorted(path.name for path in Path("run/films").iterdir()) == ["128.mp4", "256.mp4"]
    assert b"eval/film" in b"".join(path.read_bytes() for path in Path("run/tb").glob("events*"))
    capsys.readouterr()
    assert cli.main(["report", "run"]) == 0
    assert "films" in json.loads(capsys.readouterr().out)["sections"]
    page = Path("run/report.html").read_text()
    assert page.count('<video src="data:video/mp4') == 2 and f"return {rows[1][RETURN]:,.0f}" in page
    assert cli.main(["export", "run", "--best"]) == 0 and Path("run/best.npz").is_file()
    assert cli.main(["plot", "run", "--y", "eval/return_mean"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stop-at-return", "3000"], "eval.stop_at_return: needs evaluations while training"),
        (["--patience", "3"], "eval.patience: needs evaluations while training"),
        (["--eval.video-every", "1"], "eval.video_every: needs evaluations while training"),
        (["--eval.every-env-steps", "100", "--stop-at-return", "nan"], "stop_at_return: "),
        (["--eval.every-env-steps", "100", "--eval.stop-at-return", "inf"], "eval.stop_at_return: "),
        (["--eval.every-env-steps", "100", "--stop-at-return", "1e30"], "stop_at_return: "),
        (["--eval.every-env-steps", "100", "--eval.stop-at-return", "true"], "eval.stop_at_return: takes no truth"),
        (["--eval.every-env-steps", "99999999", "--stop-at-return", "5"], "eval.every_env_steps: must be below"),
        (["--eval.every-env-steps", "-1"], "eval.every_env_steps: "),
        (["--init.best"], "init.best: needs a run"),
        (["--init.path", "plain", "--init.best"], "init.path: best: plain has no evaluation made while training"),
        (["--env", "brax:fast", "--eval.every-env-steps", "100", "--eval.video-every", "1"], "only MuJoCo tasks"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("plain").mkdir()
    Path("plain/config.yaml").write_text("env: hopper\n")
    assert cli.main(["train", "--env", "hopper", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize("command", ["evaluate", "render", "export", "report"])
def test_best_without_an_evaluation_is_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/config.yaml").write_text("env: hopper\n")
    Path("policy.npz").write_bytes(b"")
    for path, message in (
        ("run", "best: run has no evaluation made while training"),
        ("nowhere", "nowhere: there is no such directory"),
        ("policy.npz", "best: policy.npz is a file; give a run directory"),
    ):
        assert cli.main([command, path, "--best"]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
    with pytest.raises(UserError, match="best: run has no evaluation"):
        mjxppo.load_policy("run", best=True)
