"""Checkpoints: exact, complete or not used, and free of anything that could execute."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo.config.check import make_config
from mjxppo.config.schema import CheckpointConfig, Config
from mjxppo.errors import UserError
from mjxppo.run import checkpoint, directory, load, start
from mjxppo.run.arrays import from_named_arrays, named_arrays


def state_of(value: float):
    return {
        "weights": jnp.full((3, 4), float(value)),
        "key": jax.random.key(7),
        "flags": jnp.array([True, False]),
        "count": jnp.uint32(2**32 - 1),
        "nested": (jnp.int32(5), {"tiny": jnp.float32(1e-42)}),
    }


@pytest.fixture
def saved(tmp_path) -> Path:
    """A run's checkpoint directory with steps 1 to 4 saved, of which two newest and the best are kept."""
    config = Config(env="hopper", checkpoint=CheckpointConfig(keep_latest=2, keep_best=1))
    writer = checkpoint.CheckpointWriter(tmp_path / "run" / "ckpt", config)
    for step, expected_return in ((1, 5.0), (2, 50.0), (3, 7.0), (4, None)):
        writer.save(step, state_of(step), expected_return)
    writer.close()
    return tmp_path / "run" / "ckpt"


def test_the_newest_and_the_best_are_kept(saved):
    assert checkpoint.steps(saved) == [4, 3, 2]


def test_what_is_read_back_is_what_was_saved_to_the_bit(saved):
    arrays, config = checkpoint.read(saved / "4")
    assert config == Config(env="hopper", checkpoint=CheckpointConfig(keep_latest=2, keep_best=1))
    restored = from_named_arrays(state_of(0), arrays)
    expected = named_arrays(state_of(4))
    for name, array in named_arrays(restored).items():
        assert array.dtype == expected[name].dtype and array.tobytes() == expected[name].tobytes()


def test_arrays_without_elements_are_not_saved_and_come_back_from_the_template():
    state = {"contacts": jnp.zeros((2, 0, 3)), "qpos": jnp.ones((2, 4))}
    arrays = named_arrays(state)
    assert set(arrays) == {"qpos"}
    assert from_named_arrays(state, arrays)["contacts"].shape == (2, 0, 3)


def test_saving_copies_so_that_donated_buffers_may_be_overwritten():
    state = jnp.arange(4.0)
    copy = named_arrays(state)[""]
    assert not np.shares_memory(copy, np.asarray(state))


def damage_missing(path):
    path.unlink()


def damage_empty(path):
    path.write_bytes(b"")


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.mark.parametrize("damage", [damage_missing, damage_empty, damage_truncate, damage_flip])
def test_any_damaged_file_is_named_and_the_step_before_is_used(saved, damage):
    files = [path for path in sorted((saved / "4").rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) >= 5
    for file in files:
        shutil.copytree(saved / "4", saved / "5")
        target = saved / "5" / file.relative_to(saved / "4")
        damage(target)
        messages: list[str] = []
        assert checkpoint.newest_whole_step(saved, messages.append) == saved / "4"
        assert len(messages) == 1 and str(target) in messages[0]
        shutil.rmtree(saved / "5")


def test_a_step_without_checksums_is_an_interrupted_save(saved):
    (saved / "4" / checkpoint.CHECKSUMS).unlink()
    messages: list[str] = []
    assert checkpoint.newest_whole_step(saved, messages.append) == saved / "3"
    assert "interrupted" in messages[0]


def test_a_checkpoint_can_be_read_at_any_moment_while_the_run_goes_on(tmp_path):
    """Steps come and go all the time: half written, whole, and deleted while they are being read."""
    run, stop, step = tmp_path / "run", threading.Event(), 0
    config = Config(env="hopper", checkpoint=CheckpointConfig(keep_latest=2, keep_best=0))
    writer = checkpoint.CheckpointWriter(run / "ckpt", config)

    def save():
        nonlocal step
        while not stop.is_set():
            step += 1
            writer.save(step, {"weights": jnp.full((200, 200), float(step))}, None)

    save_one = threading.Thread(target=save)
    save_one.start()
    try:
        deadline, seen = time.monotonic() + 200, []
        while checkpoint.newest_whole_step(run / "ckpt") is None:
            time.sleep(0.01)
        while len(seen) < 15 or (len({loaded.step for loaded in seen}) <= 3 and time.monotonic() < deadline):
            seen.append(load.load(run))
    finally:
        stop.set()
        save_one.join()
        writer.close()
    assert len({loaded.step for loaded in seen}) > 3, "steps did come and go"
    for loaded in seen:
        assert set(loaded.arrays["weights"].flat) == {float(loaded.step.name)}


def test_a_checkpoint_deleted_while_it_is_read_gives_way_to_a_newer_one(saved, monkeypatch, capsys):
    read = checkpoint.read

    def delete_first(step):
        if step.name == "4":
            shutil.copytree(step, saved / "9")
            checkpoint.write_checksums(saved / "9")
            shutil.rmtree(step)
        return read(step)

    monkeypatch.setattr(checkpoint, "read", delete_first)
    assert load.load(saved).step.name == "9"
    assert capsys.readouterr().err == ""


def test_a_named_step_that_is_deleted_is_one_line(saved, monkeypatch):
    read = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda step: shutil.rmtree(step) or read(step))
    with pytest.raises(UserError, match="there is no such directory") as error:
        load.load(saved / "4")
    assert "\n" not in str(error.value)


def test_if_no_step_is_whole_it_says_so_and_touches_nothing(saved):
    for step in checkpoint.steps(saved):
        damage_truncate(saved / str(step) / "_CHECKPOINT_METADATA")
    before = sorted((path, path.stat().st_mtime_ns) for path in saved.rglob("*"))
    with pytest.raises(UserError, match=r"no step in .* is whole"):
        load.load(saved)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in saved.rglob("*"))


def test_an_interrupted_first_save_is_set_aside_and_the_run_begins_again(tmp_path, capsys):
    ppo = {"num_envs": 8, "block_size": 4, "rollout_length": 4, "num_minibatches": 2}
    program = start.build(make_config({"env": "point_mass", "ppo": ppo}), PointMass())
    ckpt = tmp_path / "run/ckpt"
    (ckpt / "5/state").mkdir(parents=True)
    assert start.restore(program, ckpt) is None
    assert "the first checkpoint" in (said := capsys.readouterr().err) and "it is set aside" in said
    assert not (ckpt / "5").exists() and len(list((tmp_path / "run/damaged").iterdir())) == 1
    # Where another save had finished, something else is wrong, and nothing is thrown away.
    for number in ("5", "9"):
        (ckpt / number / "state").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no step in .* is whole"):
        start.restore(program, ckpt)
    assert (ckpt / "5").exists()


def test_runs_that_start_in_the_same_second_have_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(directory.time, "strftime", lambda form: "20260101-000000")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: directory.new_run_dir(Config(env="brax:ant")), range(16)))
    assert len(set(made)) == 16 and all(path.is_dir() for path in made)
    assert Path("runs/brax-ant-20260101-000000-s0-16") in made
    monkeypatch.chdir(tmp_path / "runs")
    Path("runs").write_text("a file")
    with pytest.raises(UserError, match="run_dir: cannot create runs/"):
        directory.new_run_dir(Config(env="hopper"))


EIGHT = """import os, sys, time
from pathlib import Path
from mjxppo.config.schema import Config
from mjxppo.run import directory
children = []
for _ in range(8):
    children.append(os.fork())
    if not children[-1]:
        while not Path("go").exists():
            time.sleep(0.001)
        made = directory.new_run_dir(Config(env="hopper"))
        with directory.open_run_dir(made, Config(env="hopper"), False):
            time.sleep(0.3)
        os._exit(0)
Path("go").touch()
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def test_eight_processes_that_start_together_each_have_a_directory(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", EIGHT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [path for path in (tmp_path / "runs").iterdir() if path.name != "latest"]
    assert len(made) == 8 and all((path / "config.yaml").is_file() for path in made)
    assert (tmp_path / "runs/latest").resolve() in made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt", "go", "runs"], "no link is left half made"


@pytest.mark.parametrize("path, step", [("run", "4"), ("run/ckpt", "4"), ("run/ckpt/3", "3"), ("link", "4")])
def test_a_run_its_ckpt_a_step_and_a_link_all_name_a_checkpoint(saved, tmp_path, path, step):
    (tmp_path / "link").symlink_to(saved)
    assert load.find_step(tmp_path / path) == saved / step


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "there is no such directory"),
        (lambda p: p.mkdir(), "holds no checkpoint"),
        (lambda p: p.write_text("x"), "is a file"),
        (lambda p: (p / "ckpt").mkdir(parents=True), "holds no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_one_line(tmp_path, make, message):
    path = tmp_path / "given"
    make(path)
    with pytest.raises(UserError, match=message):
        load.find_step(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("flags"), "holds flags"),
        (lambda t: t.update(more=jnp.zeros(1)), "lacks more"),
        (
            lambda t: t.update(weights=jnp.zeros((3, 5))),
            r"weights is float32\[3, 4\], this configuration needs float32\[3, 5\]",
        ),
        (lambda t: t.update(flags=jnp.zeros(2)), "flags is bool"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_naming_the_array(saved, change, message):
    arrays, _ = checkpoint.read(saved / "4")
    template = state_of(0)
    change(template)
    with pytest.raises(UserError, match=message):
        from_named_arrays(template, arrays)


def test_a_checkpoint_of_another_format_is_refused(saved):
    path = saved / "4" / "config" / "metadata"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 99}))
    checkpoint.write_checksums(saved / "4")
    with pytest.raises(UserError, match="format 99"):
        checkpoint.read(saved / "4")


def test_nothing_is_pickled(saved):
    for path in saved.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith(b"\x80\x04"), path
    for source in Path(checkpoint.__file__).parents[1].rglob("*.py"):
        text = source.read_text()
        assert "import pickle" not in text and "allow_pickle=True" not in text and "yaml.unsafe" not in text, source


def test_the_first_is_due_within_a_minute_and_the_others_at_the_interval(tmp_path):
    assert checkpoint.FIRST_AFTER_S < 60
    config = Config(env="hopper", checkpoint=CheckpointConfig(every_updates=1000))
    writer = checkpoint.CheckpointWriter(tmp_path / "ckpt", config, update=500)
    assert not writer.due(600)
    writer._opened -= checkpoint.FIRST_AFTER_S
    assert writer.due(600)
    writer.save(600, state_of(1), None)
    writer._opened -= 1000
    assert not writer.due(1599) and writer.due(1600)
    writer.close()
