"""Training from the command line: what a run leaves behind, exact resume, signals, kills, and bad input."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mjxppo import cli
from mjxppo.config.values import from_dict, read_yaml, to_yaml
from mjxppo.run import checkpoint
from mjxppo.run.metrics import MetricsWriter, read_rows

SMALL = [
    "--env",
    "brax:fast",
    "--ppo.num-envs",
    "64",
    "--ppo.block-size",
    "16",
    "--ppo.rollout-length",
    "16",
    "--ppo.num-minibatches",
    "4",
    "--log.every-updates",
    "3",
    "--checkpoint.every-updates",
    "5",
    "--eval.episodes",
    "0",
    "--eval.no-video",
]
STEPS = 25 * 1024
TIMES = ("time_s", "env_steps_per_s")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: str, steps: int = STEPS, devices: int = 2) -> int:
    return cli.main(["train", *SMALL, "--total-env-steps", str(steps), "--num-devices", str(devices), *arguments])


def final_arrays(run_dir: str | Path) -> dict[str, np.ndarray]:
    return checkpoint.read(checkpoint.newest_whole_step(Path(run_dir) / "ckpt"))[0]


def logged(run_dir: str | Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(Path(run_dir))]


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_leaves_everything_where_the_manual_says(capsys):
    assert train("--eval.episodes", "3", "--run-dir", "runs/mine", steps=3 * 1024 + 100) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["env_steps"] == 3 * 1024 + 100 and summary["eval"]["episodes"] == 3
    assert summary["eval"]["engine"] == "own", "Gymnasium has no such task"
    assert "\r" not in printed.err and "\x1b" not in printed.err, "no live display where there is no terminal"
    run = Path("runs/mine")
    assert json.loads((run / "eval.json").read_text())["seeds"] == [1_000_000, 1_000_001, 1_000_002]
    rows = read_rows(run)
    assert [row["env_steps"] for row in rows] == [1024, 2048, 3072, 3172]
    with (run / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["env_steps"]) for row in table] == [row["env_steps"] for row in rows]
    assert list(table[0]) == list(rows[0])
    assert any(b"eval/mean" in path.read_bytes() for path in (run / "tb").glob("events*"))
    assert json.loads((run / "summary.json").read_text()) == summary
    assert [start["after_update"] for start in json.loads((run / "machine.json").read_text())] == [0]
    config = from_dict(read_yaml(run / "config.yaml"))
    assert config.total_env_steps == 3172 and config.ppo.num_envs == 64
    assert Path("runs/latest").resolve() == run.resolve()
    assert Path("ckpt").resolve() == (run / "ckpt").resolve()


@pytest.mark.usefixtures("compiled_quickly")
def test_the_runs_return_is_the_expected_one_over_all_steps_of_the_last_device_call(capsys):
    assert train("--env", "hopper", "--run-dir", "run", steps=5 * 1024 + 100) == 0
    rows = read_rows(Path("run"))[-3:]
    steps = [row["env_steps_this_update"] for row in rows]
    assert steps[-1] == 100, "it weighs little"
    expected = np.average([row["expected_return"] for row in rows], weights=steps)
    assert json.loads(capsys.readouterr().out)["expected_return"] == pytest.approx(expected)


def test_its_config_repeats_a_run_to_the_bit():
    assert train("--run-dir", "first", "--seed", "5", steps=5 * 1024) == 0
    assert cli.main(["train", "--config", "first/config.yaml", "--run-dir", "second"]) == 0
    first, second = final_arrays("first"), final_arrays("second")
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert logged("first") == logged("second")


class Crash(BaseException):
    """Stands for a kill at a chosen moment."""


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Runs that nothing interrupts, by their number of devices."""
    made: dict[int, Path] = {}

    def run(devices: int) -> Path:
        if devices not in made:
            made[devices] = tmp_path_factory.mktemp("whole") / "run"
            assert train("--run-dir", str(made[devices]), devices=devices) == 0
        return made[devices]

    return run


@pytest.mark.parametrize(("devices", "crash_at"), [pytest.param(1, 1, marks=pytest.mark.exhaustive), (2, 2), (2, 7)])
def test_a_run_killed_and_resumed_ends_with_the_bits_of_one_that_was_not(monkeypatch, whole_runs, devices, crash_at):
    left_alone = whole_runs(devices)
    calls = []
    write = MetricsWriter.write

    def crash(self, rows):
        write(self, rows)
        calls.append(1)
        if len(calls) == crash_at:
            raise Crash

    monkeypatch.setattr(MetricsWriter, "write", crash)
    with pytest.raises(Crash):
        train("--run-dir", "broken", devices=devices)
    monkeypatch.setattr(MetricsWriter, "write", write)
    assert cli.main(["train", "--resume", "--run-dir", "broken"]) == 0
    whole, resumed = final_arrays(left_alone), final_arrays("broken")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert whole[name].tobytes() == resumed[name].tobytes(), name
    assert logged(left_alone) == logged("broken"), "no gap, no line twice, the same numbers"


def test_resuming_goes_on_from_the_newest_run_and_may_be_given_more_steps():
    assert train("--run-dir", "runs/a", steps=3 * 1024) == 0
    assert cli.main(["train", "--resume", "--total-env-steps", str(5 * 1024)]) == 0
    assert [row["update"] for row in logged("runs/a")] == [1, 2, 3, 4, 5]
    assert cli.main(["train", "--resume"]) == 0, "nothing left to do is no error"


def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_used(capsys):
    assert train("--run-dir", "whole", steps=12 * 1024) == 0
    assert train("--run-dir", "hurt", steps=12 * 1024) == 0
    newest = checkpoint.steps(Path("hurt/ckpt"))[0]
    victim = next(path for path in Path(f"hurt/ckpt/{newest}/state/d").iterdir())
    victim.write_bytes(victim.read_bytes()[:-3])
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--run-dir", "hurt"]) == 0
    assert str(victim.name) in capsys.readouterr().err
    assert list(Path("hurt/damaged").iterdir())
    whole, resumed = final_arrays("whole"), final_arrays("hurt")
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert logged("whole") == logged("hurt")


def test_rows_that_a_damaged_metrics_file_has_lost_are_counted(capsys):
    assert train("--run-dir", "run", steps=3 * 1024) == 0
    first, _, third = Path("run/metrics.jsonl").read_text().splitlines(keepends=True)
    Path("run/metrics.jsonl").write_text(first + "{\n" + third)
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--run-dir", "run", "--total-env-steps", str(4 * 1024)]) == 0
    assert "metrics.jsonl was damaged: of the 3 updates before, the metrics of 2 are lost" in capsys.readouterr().err
    assert [row["update"] for row in logged("run")] == [1, 4]


def start(run_dir: str, *arguments: str, steps: int = 10**8) -> subprocess.Popen:
    command = [sys.executable, "-m", "mjxppo.cli", "train"]
    arguments = (
        ("--resume", "--run-dir", run_dir)
        if "--resume" in arguments
        else (*SMALL, "--total-env-steps", str(steps), "--num-devices", "2", "--run-dir", run_dir)
    )
    source = str(Path(checkpoint.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_updates(process: subprocess.Popen, run_dir: str, updates: int) -> None:
    deadline = time.monotonic() + 600
    while len(read_rows(Path(run_dir))) < updates:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "number, code", [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.exhaustive), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_stops_with_the_shells_exit_code(number, code):
    process = start("run")
    wait_for_updates(process, "run", 7)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)  # the rest of the run would take many minutes
    assert process.returncode == code, err
    assert "--resume" in err
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"{name}: finishing the device call, then saving. Ctrl-C" in err and "stops at once: the" in err
    updates = [row["update"] for row in logged("run")]
    assert checkpoint.newest_whole_step(Path("run/ckpt")).name == str(updates[-1]), "nothing was lost"
    assert json.loads(out)["updates"] == updates[-1]


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_directory_in_use_is_refused(capsys):
    process = start("run")
    try:
        wait_for_updates(process, "run", 1)
        assert cli.main(["train", "--resume", "--run-dir", "run"]) == 2
        assert "in use by another process" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


BAD = [
    (["--env", "hoper"], "did you mean hopper"),
    ([], "env: say which task"),
    (["--env", "hopper", "--ppo.num-env", "3"], "--ppo.num-env"),
    (["--env", "hopper", "--ppo.num-envs", "many"], "ppo.num_envs: input should be a valid integer"),
    (["--env", "hopper", "--ppo.num-minibatches", "7"], "ppo.num_minibatches: 7 does not divide"),
    (["--env", "hopper", "--ppo.gamma", "2"], "ppo.gamma"),
    (["--env", "hopper", "--policy.activation", "gelu"], "gelu"),
    (["--env", "hopper", "--config", "missing.yaml"], "there is no file missing.yaml"),
    (["--env", "hopper", "--config", "broken.yaml"], "not valid YAML at line 1"),
    (["--env", "hopper", "--run-dir", "full"], "is not empty"),
    (["--env", "hopper", "--run-dir", "file/inside"], "cannot write"),
    (["--env", "hopper", "--num-devices", "1024", "--ppo.num-envs", "131072"], "num_devices: 1024 asked for"),
    (["--resume", "--run-dir", "nowhere"], "there is no file nowhere/config.yaml"),
    (["--resume"], "there is no run here"),
    (["--resume", "--run-dir", "old", "--ppo.gamma", "0.5"], "ppo.gamma: cannot change"),
    (["--resume", "--run-dir", "old", "--env", "hopper"], "env: cannot change"),
]


@pytest.mark.parametrize("arguments, message", BAD, ids=[message[:30] for _, message in BAD])
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(working_directory, capsys, arguments, message):
    (working_directory / "broken.yaml").write_text("env: [hopper")
    (working_directory / "full").mkdir()
    (working_directory / "full" / "thesis.txt").write_text("precious")
    (working_directory / "file").write_text("")
    (working_directory / "old").mkdir()
    old = from_dict({"env": "half_cheetah"})
    (working_directory / "old" / "config.yaml").write_text(to_yaml(old))
    before = {path: path.read_bytes() for path in working_directory.rglob("*") if path.is_file()}
    assert cli.main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1 and printed.out == ""
    after = {path: path.read_bytes() for path in working_directory.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != ".lock"} == before


def test_a_checkpoint_of_another_task_is_refused(capsys):
    assert train("--run-dir", "run", steps=1024) == 0
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("brax:fast", "hopper"))
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--run-dir", "run"]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and "checkpoint" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["frobnicate"], "there is no command 'frobnicate'"),
        (["trian"], "did you mean train"),
        (["evaluate", "missing"], "there is no such directory"),
        (["render", "missing"], "there is no such directory"),
        (["evaluate", ".", "--engine", "havok"], "havok"),
        (["evaluate", "."], "holds no checkpoint"),
        (["config", "--env", "hoper"], "did you mean hopper"),
    ],
)
def test_other_commands_refuse_bad_input_with_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) == 1


def test_help_names_every_command_and_config_feeds_back(capsys, working_directory):
    assert cli.main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert cli.main(["config", "--env", "hopper"]) == 0
    text = capsys.readouterr().out
    (working_directory / "mine.yaml").write_text(text)
    assert read_yaml(working_directory / "mine.yaml")["ppo"]["gamma"] == 0.995
