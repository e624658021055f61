"""The links to the newest run: which runs they follow, and what is taken where they lead nowhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mjxppo import cli
from mjxppo.config.schema import Config
from mjxppo.errors import UserError
from mjxppo.run.directory import found_run, latest, open_run_dir


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def make_run(path: str, started: float = 0.0) -> Path:
    with open_run_dir(Path(path), Config(env="hopper"), resume=False):
        pass
    if started:
        os.utime(Path(path) / "config.yaml", (started, started))
    return Path(path)


def test_they_follow_a_run_in_runs_and_lead_somewhere_from_its_start_on():
    make_run("runs/a")
    assert Path("runs/latest").resolve() == Path("runs/a").resolve()
    assert Path("ckpt").is_dir() and Path("ckpt").resolve() == Path("runs/a/ckpt").resolve()
    make_run("runs/studies/b/c")
    assert latest() == Path("runs/studies/b/c").resolve()


@pytest.mark.parametrize("elsewhere", ["other", "../outside", "deep/runs/a"])
def test_they_do_not_follow_a_run_in_another_place(elsewhere):
    make_run(elsewhere)
    assert not Path("runs").exists() and not Path("ckpt").is_symlink()
    make_run("runs/a")
    shutil.rmtree(elsewhere)
    make_run(elsewhere)
    assert latest() == Path("runs/a").resolve()


def test_a_deleted_run_makes_way_for_the_newest_that_is_there():
    for name, started in (("b", 2000.0), ("a", 3000.0), ("c", 1000.0), ("newest", 0.0)):
        make_run(f"runs/{name}", started)
    shutil.rmtree("runs/newest")
    assert not Path("runs/latest").exists()
    assert found_run(Path("runs/latest")) == Path("runs/a").resolve()
    assert Path("runs/latest").resolve() == Path("runs/a").resolve() and Path("ckpt").is_dir()
    assert found_run(Path("runs/c")) == Path("runs/c")


@pytest.mark.parametrize("command", [["watch"], ["report"], ["train", "--resume"]])
def test_without_a_run_it_says_so(command, capsys):
    with pytest.raises(UserError, match="no runs/latest"):
        latest()
    assert cli.main(command) == 2
    assert "there is no run here" in capsys.readouterr().err
