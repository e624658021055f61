"""Runs that are killed and resumed end as if left alone; signals save and stop in time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from mjxppo import checkpoint
from mjxppo.metrics import read_rows
from mjxppo.reliability import kill

TINY = [
    *("--env", "brax:fast", "--ppo.num-envs", "64", "--ppo.block-size", "16", "--ppo.rollout-length", "16"),
    *("--ppo.num-minibatches", "4", "--log.every-updates", "3", "--checkpoint.every-updates", "5"),
    *("--eval.episodes", "0", "--eval.no-video", "--num-devices", "2", "--total-env-steps", str(400 * 1024)),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(kill.__file__).removesuffix("/mjxppo/reliability/kill.py"))


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bits_of_a_run_left_alone(tmp_path):
    report = kill.run(TINY, kills=4, seed=1, directory=tmp_path)
    assert sum(report.kills.values()) == 4 and report.during_a_save >= 1
    assert report.interval == 6 and max(report.lost_updates) <= 12
    assert report.updates == 400


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "mjxppo.cli", "train", *TINY, "--run-dir", "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_second_ctrl_c_stops_at_once_and_costs_no_checkpoint(tmp_path):
    # Device calls that take minutes: the first Ctrl-C can only be noted.
    process = start("--total-env-steps", str(10**10), "--log.every-updates", "100000")
    while not (tmp_path / "run" / "metrics.jsonl").is_file():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT and time.monotonic() - sent < 2
    assert checkpoint.newest_whole_step(tmp_path / "run" / "ckpt") is None and read_rows(tmp_path / "run") == []
