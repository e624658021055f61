"""Following a run in the terminal: what is shown in each state, files that grow or are replaced, and the end."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from mjxppo import cli
from mjxppo.analysis.watch import Tail, sparkline, watch
from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import from_dict, read_yaml, to_yaml
from mjxppo.run.directory import in_use, open_run_dir


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(Config(env="hopper", total_env_steps=10_000)))
    (tmp_path / ".lock").touch()
    return tmp_path


def log(run, first, last):
    with (run / "metrics.jsonl").open("a") as file:
        for i in range(first, last + 1):
            row = {"update": i, "env_steps": 1000 * i, "episode_return": 10.0 * i, "env_steps_per_s": 500.0}
            file.write(json.dumps(row | {"approx_kl": 0.01, "time_s": 2.0 * i}) + "\n")


@contextlib.contextmanager
def training(run):
    """Holds the run's lock as the training program does."""
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shown(run, **options):
    """The state that ``watch`` returned, and the text on the screen."""
    screen = io.StringIO()
    state = watch(run, Console(file=screen, width=100), **options)
    return state, screen.getvalue()


def test_shows_where_a_live_run_stands(run):
    log(run, 1, 4)
    (run / "ckpt" / "3").mkdir(parents=True)
    (run / "ckpt" / "4").mkdir()  # still being written
    (run / "ckpt" / "3" / "checksums.json").write_text("{}")
    with training(run):
        state, text = shown(run, once=True)
    assert state == "training"
    for wanted in ("4.0k of 10.0k (40 %)", "update 4", "12 s left", "40.0  ▁▃▆█", "500", "KL 0.01", "update 3,"):
        assert wanted in text, wanted


def test_tells_starting_finishing_complete_and_stopped_apart(run):
    with training(run):
        assert shown(run, once=True)[0] == "starting"
    log(run, 1, 9)
    state, text = shown(run, once=True)
    assert state == "stopped" and "mjxppo train --resume --run-dir" in text
    log(run, 10, 10)
    with training(run):
        assert shown(run, once=True)[0] == "finishing"
    result = {"mean": 3000.0, "std": 2.0, "episodes": 100, "engine": "gymnasium"}
    (run / "eval.json").write_text(json.dumps(result))
    state, text = shown(run, once=True)
    assert state == "complete" and "3,000.0 ± 2.0" in text


def test_one_policy_of_a_run_stands_where_the_run_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run_dir(tmp_path / "run", Config(env="hopper", num_seeds=2, total_env_steps=10_000), resume=False):
        own = tmp_path / "run" / "seed-1"
        log(own, 1, 4)
        step = tmp_path / "run" / "ckpt" / "3"
        step.mkdir(parents=True)
        (step / "checksums.json").write_text("{}")
        state, text = shown(own, once=True)
    assert state == "training" and "update 3," in text
    screen = io.StringIO()
    assert watch(own, Console(file=screen, width=400), once=True) == "stopped"
    assert f"--run-dir {tmp_path / 'run'} " in screen.getvalue()


def test_says_when_nothing_new_has_come_for_long(run):
    import os

    log(run, 1, 2)
    os.utime(run / "metrics.jsonl", (time.time() - 300, time.time() - 300))
    with training(run):
        assert "nothing new for 5 min" in shown(run, once=True)[1]


def test_follows_a_run_to_its_end(run):
    def work():
        with training(run):
            held.set()
            for i in range(1, 11):
                log(run, i, i)
                time.sleep(0.02)

    held = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    held.wait()
    state, text = shown(run, interval_s=0.01)
    worker.join()
    assert state == "complete" and "10.0k of 10.0k (100 %)" in text


def test_shows_each_of_several_policies(run):
    (run / "config.yaml").write_text(to_yaml(Config(env="hopper", total_env_steps=10_000, num_seeds=2)))
    for name, last in (("seed-0", 4), ("seed-1", 4)):
        (run / name).mkdir()
        log(run / name, 1, last)
    with training(run):
        state, text = shown(run, once=True)
    assert state == "training" and "seed-0" in text and "seed-1" in text and text.count("▁▃▆█") == 2


def test_reads_only_whole_lines_once_and_starts_anew_after_a_resume(run):
    path = run / "metrics.jsonl"
    tail = Tail(path)
    tail.read()
    assert tail.rows == []
    log(run, 1, 3)
    with path.open("a") as file:
        file.write('{"update": 4, "env_')
    tail.read()
    tail.read()
    assert [row["update"] for row in tail.rows] == [1, 2, 3]
    with path.open("a") as file:
        file.write('steps": 4000}\n')
    tail.read()
    assert [row["update"] for row in tail.rows] == [1, 2, 3, 4]
    path.rename(run / "old")  # as a resume does: another file under the same name, here a longer one
    log(run, 1, 9)
    tail.read()
    assert [row["update"] for row in tail.rows] == list(range(1, 10))


def test_watching_never_keeps_a_run_from_starting(run, monkeypatch):
    config = from_dict(read_yaml(run / "config.yaml"))
    monkeypatch.chdir(run)
    with (run / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        with open_run_dir(run, config, resume=True):
            assert in_use(run)
    assert not in_use(run)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut_however_long_the_policies_names_are(tmp_path, width):
    grid = {"ppo.learning_rate": (1e-4, 3e-4), "ppo.gae_lambda": (0.9, 0.95)}
    config = Config(env="half_cheetah", num_seeds=2, grid=grid)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    row = {"update": 1, "env_steps": 1000, "expected_return": 12345.6, "env_steps_per_s": 1000.0}
    for directory in member_directories(tmp_path, config):
        directory.mkdir()
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(60)))
    console = Console(width=width, record=True, file=io.StringIO())
    watch(tmp_path, console, once=True)
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.count("12,345.6") == 8
    assert len([line for line in text.splitlines() if "12,345.6" in line and "▅" in line]) == 8


def test_sparklines_show_the_course():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0]) == sparkline([5.0, 5.0])[0]
    assert len(sparkline(list(range(1000)))) == 40


def test_the_command_shows_one_frame_without_starting_jax(run, capsys):
    log(run, 1, 10)
    code = "import sys; from mjxppo import cli; code = cli.main(['watch', sys.argv[1], '--once']); "
    code += "print([m for m in ('jax', 'mujoco', 'gymnasium') if m in sys.modules]); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "100 %" in done.stdout and done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "arguments, message", [(["."], "holds no run"), ([".", "--interval", "0"], "interval: "), ([], "runs/latest")]
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watch", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_a_stopped_run_is_an_error_to_scripts_that_wait_for_it(run, capsys):
    log(run, 1, 3)
    assert cli.main(["watch", str(run)]) == 1
    assert "stopped" in capsys.readouterr().out
    assert Path(run / "ckpt").exists() is False, "watching writes nothing"
