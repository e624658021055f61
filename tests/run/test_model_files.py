"""A user's model file: a run keeps it, uses what it was trained on, and says when the file is another now."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import gymnasium
import jax
import mujoco
import numpy as np
import pytest

import mjxppo
from mjxppo import cli
from mjxppo.config.schema import Config
from mjxppo.config.values import read_yaml
from mjxppo.errors import UserError
from mjxppo.policy.npz import to_npz
from mjxppo.policy.policy import Policy
from mjxppo.run import model_files
from mjxppo.run.load import find_policy
from mjxppo.run.session import configuration_of

HOPPER = Path(gymnasium.__file__).parent / "envs/mujoco/assets/hopper.xml"
MESH = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
SMALL = [
    *("--ppo.num-envs", "16", "--ppo.block-size", "8", "--ppo.rollout-length", "8", "--ppo.num-minibatches", "2"),
    *("--log.every-updates", "1", "--num-devices", "2", "--policy.hidden-sizes", "8", "--eval.no-video"),
]


@pytest.fixture
def robot(tmp_path) -> Path:
    """A model file with an included file, a mesh beside it, and a mesh named by its absolute path."""
    for folder in ("robots/parts", "meshes", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "meshes/m.obj").write_text(MESH)
    (tmp_path / "elsewhere/n.obj").write_text(MESH)
    (tmp_path / "robots/parts/options.xml").write_text('<mujoco><option timestep="0.004"/></mujoco>')
    path = tmp_path / "robots/mine.xml"
    path.write_text(
        f"""<mujoco><compiler meshdir="../meshes"/><include file="parts/options.xml"/>
        <asset><mesh name="m" file="m.obj"/><mesh name="n" file="{tmp_path / "elsewhere/n.obj"}"/></asset>
        <worldbody><body pos="0 0 1.0123456789012345"><freejoint/><geom type="mesh" mesh="m"/>
        <geom type="mesh" mesh="n"/></body></worldbody></mujoco>"""
    )
    return path


@pytest.fixture
def kept(robot, tmp_path) -> tuple[Config, Path]:
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    config = Config(env="hopper", env_options={"xml_file": str(robot)})
    model_files.keep(config, run)
    return config, run


def test_all_that_the_file_names_is_kept_with_its_hash(robot, kept, tmp_path):
    config, run = kept
    names = ["robots/mine.xml", "robots/parts/options.xml", "meshes/m.obj", "elsewhere/n.obj"]
    files = json.loads((run / "model/files.json").read_text())["files"]
    assert {entry["copy"] for entry in files.values()} == set(names)
    for name in names:
        content = (tmp_path / name).read_bytes()
        assert (run / "model" / name).read_bytes() == content
        assert files[str(tmp_path / name)]["sha256"] == hashlib.sha256(content).hexdigest()
    assert hashlib.sha256(robot.read_bytes()).hexdigest() in model_files.comment(run)
    assert model_files.as_trained(config, run) == config, "the file itself, while it is as it was"


@pytest.mark.parametrize("name", ["robots/mine.xml", "robots/parts/options.xml", "meshes/m.obj"])
@pytest.mark.parametrize("what", ["changed", "vanished"])
def test_the_copy_is_used_where_a_file_is_not_as_it_was_and_one_line_says_so(kept, tmp_path, capsys, name, what):
    config, run = kept
    before = mujoco.MjModel.from_xml_path(config.env_options["xml_file"])
    if what == "changed":
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
    else:
        (tmp_path / name).unlink()
    used = model_files.as_trained(config, run).env_options["xml_file"]
    assert used == str(run / "model/robots/mine.xml")
    assert capsys.readouterr().err == f"{tmp_path / name} has {what} since {run} began: its copy {used} is used\n"
    after = mujoco.MjModel.from_xml_path(used)
    assert after.opt.timestep == 0.004 and (after.body_pos == before.body_pos).all(), "no digit is lost"


def test_a_copy_that_is_not_what_it_was_is_not_used(kept, robot, tmp_path):
    config, run = kept
    robot.write_text("<mujoco/>")
    (run / "model/meshes/m.obj").unlink()
    with pytest.raises(UserError, match=r"^env_options.xml_file: .*mine.xml has changed .*m.obj has vanished; put it"):
        model_files.as_trained(config, run)


def test_a_mesh_that_is_named_by_an_absolute_path_has_no_copy_that_could_stand_in(kept, tmp_path):
    config, run = kept
    (tmp_path / "elsewhere/n.obj").write_text(MESH.replace("v 1 0 0", "v 2 0 0"))
    with pytest.raises(
        UserError, match=r"n.obj has changed since .*, and its copy cannot be used: .*n.obj has changed"
    ):
        model_files.as_trained(config, run)


def test_files_of_gymnasiums_are_not_kept(tmp_path):
    for options in ({}, {"xml_file": "hopper.xml"}):
        config = Config(env="hopper", env_options=options)
        model_files.keep(config, tmp_path)
        assert model_files.as_trained(config, tmp_path) is config and not model_files.comment(tmp_path)
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def compiling_quickly():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a user's Hopper, and what its evaluation was."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(HOPPER, folder / "mine.xml")
    with pytest.MonkeyPatch.context() as patch, compiling_quickly():
        patch.chdir(folder)
        arguments = ["--env", "hopper", "--env-options.xml-file", "mine.xml", "--run-dir", "run", *SMALL]
        assert cli.main(["train", *arguments, "--total-env-steps", "256", "--eval.episodes", "2"]) == 0
    return folder, json.loads((folder / "run/eval.json").read_text())["returns"]


@pytest.fixture
def changed(trained, tmp_path, monkeypatch):
    """The same run, whose file has since become that of a heavier robot, and what its evaluation was."""
    folder, returns = trained
    original = (folder / "mine.xml").read_text()
    (folder / "mine.xml").write_text(original.replace("<geom ", '<geom density="3000" ', 1))
    shutil.copytree(folder / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    yield folder / "mine.xml", returns
    (folder / "mine.xml").write_text(original)


def said(capsys, file: Path, what: str = "changed") -> dict:
    """The JSON that a command printed, which has said once that the model file is not what it was."""
    printed = capsys.readouterr()
    assert printed.err.count(f"{file} has {what} since") == 1, printed.err
    return json.loads(printed.out)


@pytest.mark.usefixtures("compiled_quickly")
def test_commands_use_the_robot_that_was_trained(changed, capsys):
    file, returns = changed
    assert Path("run/config.yaml").read_text().startswith("# env_options.xml_file: sha256 ")
    assert read_yaml(Path("run/config.yaml"))["env_options"]["xml_file"] == str(file)
    assert cli.main(["evaluate", "run", "--episodes", "2", "--json"]) == 0
    assert said(capsys, file)["returns"] == returns
    assert cli.main(["render", "run", "--out", "film.html"]) == 0
    assert said(capsys, file)["return"] == pytest.approx(returns[0])
    assert cli.main(["report", "run"]) == 0
    said(capsys, file)
    assert cli.main(["export", "run"]) == 0
    said(capsys, file)
    assert cli.main(["evaluate", "run/policy.npz", "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == returns
    shutil.copy("run/policy.npz", "elsewhere.npz")
    assert cli.main(["evaluate", "elsewhere.npz", "--episodes", "2", "--json"]) == 0
    assert not [line for line in capsys.readouterr().err.splitlines() if "since" in line], "it names the run's copy"
    file.unlink()
    assert cli.main(["evaluate", "run", "--episodes", "2", "--json"]) == 0
    assert said(capsys, file, "vanished")["returns"] == returns
    configuration_of({"env": "hopper", "init": {"path": "run"}})
    assert f"{file} has vanished since" in capsys.readouterr().err


def test_an_exported_policy_says_that_its_robot_has_changed(robot, tmp_path, capsys):
    """Outside of a run's directory there is no copy of the model."""
    zeros = np.zeros((11, 3), np.float32)
    policy = Policy(zeros[:, 0], zeros[:, 0] + 1, 5.0, ((zeros, zeros[0]),), "tanh")
    path, mesh = tmp_path / "policy.npz", tmp_path / "meshes/m.obj"
    path.write_bytes(to_npz(policy, "hopper", {"xml_file": str(robot)}))
    find_policy(path)
    assert not capsys.readouterr().err
    mesh.write_text(MESH + "\n")
    find_policy(path)
    assert (
        f"{mesh} has changed since {path} was exported: the policy acts in the model as it is"
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("compiled_quickly")
def test_a_resumed_run_goes_on_with_the_robot_that_it_began_with(changed, capsys):
    file, returns = changed
    run = mjxppo.train_policy("hopper", run_dir="run", resume=True)
    assert f"its copy {Path('run/model/mine.xml').absolute()} is used\nhopper: " in capsys.readouterr().err
    assert run.evaluate(episodes=2)["returns"] == returns
    assert run.env.task.options.xml_file == str(Path("run/model/mine.xml").absolute())
    assert run.config.env_options["xml_file"] == str(file), "config.yaml still says where it came from"
    file.write_text((Path("run/model/mine.xml")).read_text())
    capsys.readouterr()
    assert run.evaluate(episodes=2)["returns"] == returns and not capsys.readouterr().err
