"""Too many non-finite numbers stop a run, keep the last good checkpoint, and leave a dump that replays the failure."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.values import merge
from mjxppo.envs import Environment, build
from mjxppo.errors import UserError
from mjxppo.ppo import losses
from mjxppo.run import checkpoint, failure, loop, start
from mjxppo.run.metrics import read_rows

pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Fragile(PointMass):
    """Breaks where x becomes greater than 1.2."""

    def advance(self, worlds, action):
        moved, terms, terminated = super().advance(worlds, action)
        return {"x": jnp.where(moved["x"][:, :1] > 1.2, jnp.nan, moved["x"])}, terms, terminated


VALUES = {
    "env": "hopper",  # never built: a toy takes its place
    "total_env_steps": 100_000,
    "policy": {"hidden_sizes": [8]},
    "ppo": {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "stagger_resets": False},
    "log": {"every_updates": 3, "tensorboard": False},
    "checkpoint": {"every_updates": 3},
}


def config_with(**changes):
    return make_config(merge(VALUES, changes))


def fail(monkeypatch, run_dir, env, config) -> loop.TrainingFailed:
    monkeypatch.setattr(build, "make", lambda *args, **options: Environment(env))
    run_dir.mkdir()
    with pytest.raises(loop.TrainingFailed) as error:
        loop.train(start.build(config), run_dir)
    return error.value


def test_the_dump_of_failing_worlds_replays_them_with_one_command(tmp_path, monkeypatch, capsys):
    config = config_with(num_devices=2, ppo={"max_nonfinite_share": 0.0, "num_epochs": 1})
    error = fail(monkeypatch, tmp_path / "run", Fragile(), config)
    rows = read_rows(tmp_path / "run")
    update = next(row["update"] for row in rows if row["nonfinite_steps"])
    assert error.nonfinite == (update, 0) and "non-finite world" in str(error)
    failure.write_dump(config, tmp_path / "run", *error.nonfinite)
    assert cli.main(["replay", str(tmp_path / "run")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["reproduced"] and all(result["worlds_nonfinite"]) and len(result["worlds"]) >= 1
    assert (result["update"], result["nonfinite_steps"]) == (update, rows[update - 1]["nonfinite_steps"])
    with np.load(tmp_path / "run" / "failure" / "worlds.npz") as worlds:
        moved = worlds["state/worlds/x"] + 0.3 * np.clip(worlds["action"], -1, 1)
        assert worlds["world"].tolist() == result["worlds"][:16]
    assert (moved[:, 0] > 1.2).all(), "the state and action are those that fail"


def test_the_dump_starts_from_the_last_good_checkpoint(tmp_path, monkeypatch):
    """Worlds that break only later are found by going on from the newest checkpoint, not from the beginning."""
    config = config_with(num_devices=2, ppo={"max_nonfinite_share": 1.0, "num_epochs": 1}, total_env_steps=256 * 12)
    monkeypatch.setattr(build, "make", lambda *args, **options: Environment(Fragile()))
    program = start.build(config)
    loop.train(program, tmp_path)
    rows = read_rows(tmp_path)
    assert checkpoint.newest_whole_step(tmp_path / "ckpt").name == "12"
    for step in checkpoint.steps(tmp_path / "ckpt"):
        if step > 9:
            (tmp_path / "ckpt" / str(step)).rename(tmp_path / f"later-{step}")
    calls = []
    monkeypatch.setattr(failure.checkpoint, "read", lambda step, read=checkpoint.read: calls.append(step) or read(step))
    failure.write_dump(config, tmp_path, update=11)
    assert [step.name for step in calls] == ["9"]
    assert failure.replay(tmp_path)["nonfinite_steps"] == rows[10]["nonfinite_steps"] > 0


def test_nonfinite_gradients_stop_the_run_too_and_are_replayed(tmp_path, monkeypatch):
    config, loss_of_value = config_with(num_devices=1), losses.loss_of_value
    # No sound world's rewards are large enough for a gradient that overflows.
    monkeypatch.setattr(losses, "loss_of_value", lambda *arguments: jnp.inf * loss_of_value(*arguments))
    error = fail(monkeypatch, tmp_path / "run", PointMass(), config)
    assert "skipped for a non-finite gradient" in str(error) and error.nonfinite == (1, 0)
    failure.write_dump(config, tmp_path / "run", *error.nonfinite)
    result = failure.replay(tmp_path / "run" / "failure")
    assert result["reproduced"] and result["skipped_gradient_steps"] > 0 and result["worlds"] == []


def test_one_of_several_policies_is_dumped_as_a_run_of_its_own(tmp_path, monkeypatch):
    config = config_with(num_devices=2, num_seeds=2, ppo={"max_nonfinite_share": 0.0, "num_epochs": 1})
    error = fail(monkeypatch, tmp_path / "run", Fragile(), config)
    failure.write_dump(config, tmp_path / "run", *error.nonfinite)
    result = failure.replay(tmp_path / "run")
    assert result["reproduced"] and result["seed"] == error.nonfinite[1] and all(result["worlds_nonfinite"])


def test_what_is_no_dump_is_refused_with_one_line(tmp_path, monkeypatch):
    config = config_with(num_devices=2, ppo={"max_nonfinite_share": 0.0})
    error = fail(monkeypatch, tmp_path / "run", Fragile(), config)
    with pytest.raises(UserError, match="there is no such file"):
        failure.replay(tmp_path / "run")
    dump = failure.write_dump(config, tmp_path / "run", *error.nonfinite)
    np.savez(dump / "update.npz", evil=np.array([print], dtype=object))
    with pytest.raises(UserError, match=r"update\.npz: is missing or damaged"):
        failure.replay(tmp_path / "run")
    (dump / "update.npz").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match=r"update\.npz: is missing or damaged"):
        failure.replay(tmp_path / "run")
    for content in ("", "[]", '{"format": 1}', '{"format": 1, "config": {"env": 3}}'):
        (dump / "failure.json").write_text(content)
        with pytest.raises(UserError):
            failure.replay(tmp_path / "run")
