"""Commands that simulate with MJX or Brax, each as a process of its own: on every JAX they run, and do not abort."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mjxppo.errors import UserError
from mjxppo.measure import physics as measured
from mjxppo.physics import compiler

ROBOT = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom name="floor" type="plane" size="40 40 1"/>
    <body name="torso" pos="0 0 0.5">
      <joint name="rootx" type="slide" axis="1 0 0"/>
      <joint name="rootz" type="slide" axis="0 0 1"/>
      <joint name="rooty" type="hinge" axis="0 1 0"/>
      <geom type="sphere" size="0.2" contype="1" conaffinity="0"/>
      <body name="arm">
        <joint name="arm" type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.04" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="arm" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""
SMALL = (
    *("--ppo.num-envs", "16", "--ppo.block-size", "16", "--ppo.num-minibatches", "1", "--ppo.rollout-length", "4"),
    *("--ppo.num-epochs", "1", "--policy.hidden-sizes", "8", "--total-env-steps", "64", "--eval.no-video"),
    *("--eval.episodes", "0", "--env-options.max-episode-steps", "5"),
)
FUSION = "xla_cpu_use_multi_output_fusion"


def mjxppo(directory: Path, *arguments: str) -> dict:
    """The JSON that a command prints; XLA's flags are those that the package chooses by itself."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "mjxppo", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def flags(code: str) -> str:
    """``XLA_FLAGS`` of a fresh process that has run ``code``."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", f"{code}\nimport os; print(os.environ['XLA_FLAGS'])"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_train_on_an_environment_of_brax(tmp_path):
    assert mjxppo(tmp_path, "train", "--env", "brax:ant", *SMALL, "--run-dir", "run")["env_steps"] == 64


@pytest.mark.exhaustive
@pytest.mark.slow
def test_train_and_evaluate_with_mjx(tmp_path, backend="mjx"):
    (tmp_path / "robot.xml").write_text(ROBOT)
    own = ("--env-options.xml-file", "robot.xml", "--physics.backend", backend)
    assert mjxppo(tmp_path, "train", "--env", "half_cheetah", *own, *SMALL, "--run-dir", "run")["env_steps"] == 64
    for engine in ("mjx", "own"):
        assert mjxppo(tmp_path, "evaluate", "run", "--engine", engine, "--episodes", "1")["engine"] == "mjx"


@pytest.mark.parametrize(
    "values, left_out",
    [
        ({"env": "hopper"}, False),
        ({"env": "hopper", "physics": {"backend": "planar"}}, False),
        ({"env": "hopper", "env_options": {"xml_file": "gone.xml"}}, False),
        ({"env": 3, "physics": 4, "env_options": 5}, False),
        ({"env": "hopper", "physics": {"backend": "mjx"}}, True),
        ({"env": "brax:ant"}, True),
        ({"env": "playground:CartpoleBalance"}, True),
        ({"env": "hopper", "env_options": {"xml_file": "humanoid.xml"}}, True),
        ({"env": "hopper", "env_options": {"xml_file": "walker2d.xml"}}, False),
    ],
)
def test_the_setting_is_left_out_where_it_has_to_be(values, left_out, monkeypatch):
    from mjxppo.envs import build

    monkeypatch.setenv("XLA_FLAGS", f"--xla_backend_extra_options={FUSION}=true")
    monkeypatch.setattr(compiler.jax, "__version_info__", (0, 10, 2))
    monkeypatch.setattr(build, "backend_is_up", lambda: False)
    monkeypatch.setattr(compiler.xla, "backend_is_up", lambda: False)
    build.prepare(values)
    assert (FUSION not in os.environ["XLA_FLAGS"]) == left_out


def test_what_cannot_be_compiled_any_more_is_refused(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_backend_extra_options={FUSION}=true")
    monkeypatch.setattr(compiler.jax, "__version_info__", (0, 10, 2))
    monkeypatch.setattr(compiler.xla, "platform", lambda override=None: "cpu")
    monkeypatch.setattr(compiler.xla, "backend_is_up", lambda: True)
    with pytest.raises(UserError, match=r"physics.backend: JAX .* cannot compile mjx .* Python 3\.12 or later"):
        compiler.check_compiler()
    with pytest.raises(UserError, match="backends: this JAX compiles planar and mjx with different settings"):
        measured.measure_physics(["hopper"], ["planar", "mjx"])
    assert measured.default_backends() == ("c", "planar")


def test_planar_keeps_the_setting():
    assert f"{FUSION}=true" in flags("from mjxppo import envs; envs.make('hopper')")
