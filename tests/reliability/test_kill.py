"""Runs that are killed and resumed end as if left alone; signals save and stop in time."""

from __future__ import annotations

import pytest

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
