"""Learning itself: a small budget reaches returns in Gymnasium that a broken learner cannot."""

from __future__ import annotations

import json

import pytest

from mjxppo import cli


@pytest.mark.slow
def test_half_cheetah_learns_to_run_in_a_million_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--env", "halfcheetah", "--total-env-steps", "1000000", "--eval.episodes", "10", "--eval.no-video"]
    assert cli.main(["train", *arguments, "--seed", "11", "--num-devices", "2", "--run-dir", "run"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["env_steps"] == 1_000_000
    # A random policy scores about -280, a still one about 0. This learner reaches 3000 to 5000; with the advantage's
    # sign or order wrong, terminal values bootstrapped wrongly, or stale log-probs, it stays below 500.
    assert summary["eval"]["mean"] > 1500
    engine = ["evaluate", "run", "--episodes", "10", "--json", "--engine"]
    results = {}
    for name in ("gymnasium", "planar"):
        assert cli.main([*engine, name]) == 0
        results[name] = json.loads(capsys.readouterr().out)
    assert results["gymnasium"]["mean"] == summary["eval"]["mean"]
    assert results["gymnasium"]["seeds"] == list(range(1_000_000, 1_000_010))
    # The same policy in our physics and in C MuJoCo: episodes differ, their distribution does not.
    spread = max(results["gymnasium"]["std"], results["planar"]["std"], 50)
    assert abs(results["gymnasium"]["mean"] - results["planar"]["mean"]) < 3 * spread
