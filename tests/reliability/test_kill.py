"""Runs that are killed and resumed end as if left alone; signals save and stop in time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import kill
import pytest

from mjxppo import cli
from mjxppo.run import checkpoint
from mjxppo.run.metrics import read_evaluations, read_rows

TINY = [
    *("--env", "brax:fast", "--ppo.num-envs", "64", "--ppo.block-size", "16", "--ppo.rollout-length", "16"),
    *("--ppo.num-minibatches", "4", "--log.every-updates", "3", "--checkpoint.every-updates", "5"),
    *("--eval.episodes", "0", "--eval.no-video", "--num-devices", "2", "--total-env-steps", str(400 * 1024)),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(kill.__file__).parents[1]))


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bits_of_a_run_left_alone(tmp_path):
    options = [*TINY, "--total-env-steps", str(480 * 1024), "--eval.every-env-steps", str(24 * 1024)]
    report = kill.kill_and_compare(options, kills=3, seed=1, directory=tmp_path)
    assert len(read_evaluations(tmp_path / "killed")) == 20
    assert sum(report.kills.values()) == 3 and report.during_a_save >= 1
    assert report.interval == 6 and max(report.lost_updates) <= 12
    assert report.updates == 480


KILLED = """import os, signal, sys
from mjxppo import cli
from mjxppo.run import checkpoint
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "late":
    checkpoint.write_checksums = kill
else:
    begin = checkpoint.CheckpointWriter.save
    checkpoint.CheckpointWriter.save = lambda *arguments: kill(begin(*arguments))
sys.exit(cli.main(["train", *sys.argv[2:]]))
"""


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("moment", [pytest.param("early", marks=pytest.mark.exhaustive), "late"])
def test_a_run_killed_in_its_first_save_begins_again(moment, tmp_path, capsys):
    arguments = [*TINY, "--total-env-steps", "8192", "--run-dir", "run"]
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, *arguments], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(path.name for path in Path("run/ckpt").iterdir())
    assert left == ["6"] if moment == "late" else all("tmp" in name for name in left), left
    assert cli.main(["evaluate", "run", "--engine", "own"]) == 2
    assert "this run has no checkpoint yet" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--run-dir", "run"]) == 0
    told = capsys.readouterr().err
    assert "no checkpoint yet: starting from the beginning" in told
    assert ("; it is set aside\n" in told) == Path("run/damaged").exists() == (moment == "late")
    assert [row["update"] for row in read_rows(Path("run"))] == list(range(1, 9))
    assert checkpoint.newest_whole_step(Path("run/ckpt")).name == "8"


WITHIN_S = 100
"""Limit for what takes a moment, on a machine however busy."""

COMMAND = """import signal, sys
from mjxppo import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
sys.exit(cli.main(["train", "--run-dir", "run", *sys.argv[1:]]))
"""


@pytest.fixture
def start():
    """Starts ``mjxppo train`` as a process; none outlives the test."""
    started = []

    def run(*arguments: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", COMMAND, *arguments]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, env=os.environ | environment))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen, ready) -> None:
    deadline = time.monotonic() + 600
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def catches(process: subprocess.Popen, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.search(r"^SigCgt:\s*(\w+)", status, re.M).group(1), 16) >> number - 1 & 1)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")


@needs_proc
@pytest.mark.usefixtures("compiled_quickly")
def test_a_second_ctrl_c_stops_at_once_and_costs_no_checkpoint(tmp_path, start):
    # Device calls that take minutes: the first Ctrl-C can only be noted.
    process = start(*TINY, "--total-env-steps", str(10**10), "--log.every-updates", "100000")
    # The loop has begun once its own handler for SIGTERM stands.
    wait_for(process, lambda: (tmp_path / "run" / "metrics.jsonl").is_file() and catches(process, signal.SIGTERM))
    process.send_signal(signal.SIGINT)
    # The first one has been noted once the next is left to the system.
    wait_for(process, lambda: not catches(process, signal.SIGINT))
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_S) == -signal.SIGINT, "by the signal itself: the device call would have taken minutes"
    assert checkpoint.newest_whole_step(tmp_path / "run" / "ckpt") is None and read_rows(tmp_path / "run") == []


@needs_proc
def test_a_signal_while_the_program_compiles_stops_at_once_and_the_run_can_be_resumed(tmp_path, start):
    cold = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_LOG_COMPILES": "1"}
    for number, arguments in (
        (signal.SIGTERM, (*TINY, "--total-env-steps", "4096")),
        (signal.SIGINT, ("--resume",)),
    ):
        process = start(*arguments, **cold)
        assert any("Compiling" in line and "chunk" in line for line in process.stderr), "XLA has begun"
        time.sleep(0.2)  # into the compilation, which takes seconds
        process.send_signal(number)
        said = process.communicate(timeout=WITHIN_S)[1]
        # By the signal itself, which shells count as 130 and 143: Python's handler would wait for the compiler.
        assert process.returncode == -number, said
        assert not [line for line in said.splitlines() if "Finished XLA" in line and "chunk" in line]
        assert "Traceback" not in said
        assert ("stopped before training began: run holds no new checkpoint" in said) == (number == signal.SIGINT)
        assert checkpoint.newest_whole_step(tmp_path / "run" / "ckpt") is None and read_rows(tmp_path / "run") == []
    assert cli.main(["train", "--resume", "--run-dir", "run"]) == 0
    assert [row["update"] for row in read_rows(tmp_path / "run")] == [1, 2, 3, 4]
