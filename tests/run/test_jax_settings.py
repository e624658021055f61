"""JAX's own settings, which a user's shell or script may hold, work or are refused in one line that names them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from toy import PointMass

import mjxppo
from mjxppo import xla
from mjxppo.errors import UserError
from mjxppo.run.jax_settings import check_jax_settings
from mjxppo.run.metrics import read_rows

REFUSED = {
    "jax_enable_x64": True,
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_no_execution": True,
    "jax_debug_key_reuse": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_transfer_guard": "disallow",
}
WORKING = {
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_default_prng_impl": "rbg",
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_rank_promotion": "warn",
}


@pytest.fixture
def changed(request):
    name, value = request.param
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    yield name
    jax.config.update(name, before)


@pytest.mark.parametrize("changed", REFUSED.items(), ids=lambda pair: pair[0], indirect=True)
def test_a_setting_that_cannot_work_is_refused_before_anything_is_written(changed, tmp_path):
    with pytest.raises(UserError, match=f"^{changed.upper()}: .* cannot be used") as refused:
        mjxppo.train_policy(PointMass(), run_dir=tmp_path / "run")
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("changed", WORKING.items(), ids=lambda pair: pair[0], indirect=True)
def test_other_settings_work(changed, tmp_path):
    check_jax_settings()
    ppo = {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 1}
    run = mjxppo.train_policy(PointMass(), run_dir=tmp_path / "run", ppo=ppo, total_env_steps=512)
    assert run.rows[-1]["gradient_steps"] == 4


@pytest.mark.exhaustive
def test_a_healthy_run_makes_no_nan(tmp_path):
    """HalfCheetah never terminates: in a short run no episode ends, and returns are not known."""
    command = [sys.executable, "-m", "mjxppo", "train", "--env", "half_cheetah", "--run-dir", str(tmp_path / "run")]
    settings = {"num-envs": 32, "block-size": 32, "rollout-length": 4, "num-minibatches": 2}
    command += [part for name, value in settings.items() for part in (f"--ppo.{name}", str(value))]
    command += ["--total-env-steps", "256", "--eval.episodes", "1", "--eval.no-video", "--log.every-updates", "2"]
    strict = {"JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, env=os.environ | strict, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "run")
    assert [row["episode_return"] for row in rows] == [None, None], "no episode has ended"
    assert all(row["expected_return"] is not None for row in rows)


@pytest.mark.parametrize("asked, arguments", [("cuda", ("doctor",)), ("nonsense", ("train", "--env", "hopper"))])
def test_a_platform_that_is_not_here_is_named(asked, arguments, tmp_path):
    if asked == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("it is here")
    command = [sys.executable, "-m", "mjxppo", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": asked, "PYTHONPATH": str(Path(mjxppo.__file__).parents[1])}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"mjxppo: JAX_PLATFORMS: {asked} cannot be used here (") and "unset it" in line


@pytest.mark.parametrize(
    "name, value, line",
    [
        ("JAX_PLATFORM_NAME", "nonsense", "JAX_PLATFORM_NAME: nonsense cannot be used here ("),
        ("JAX_ENABLE_X64", "maybe", "JAX_ENABLE_X64: JAX takes no 'maybe' there; unset it"),
        ("JAX_TRANSFER_GUARD", "sometimes", "JAX_TRANSFER_GUARD: JAX takes no 'sometimes' there; unset it"),
    ],
)
def test_a_value_that_jax_does_not_take_is_refused_in_one_line(name, value, line, tmp_path):
    command = [sys.executable, "-m", "mjxppo", "train", "--env", "hopper"]
    environment = os.environ | {name: value, "PYTHONPATH": str(Path(mjxppo.__file__).parents[1])}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith(f"mjxppo: {line}")


@pytest.mark.parametrize(
    "reason", [AssertionError(), RuntimeError("Unable to initialize backend 'x': none. (set JAX_PLATFORMS='' to)")]
)
def test_a_platform_that_a_script_asks_for_is_refused_in_python(monkeypatch, reason):
    def fail():
        raise reason

    monkeypatch.setattr(jax, "default_backend", fail)
    monkeypatch.setattr(xla, "backend_is_up", lambda: False)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "x")
    try:
        with pytest.raises(UserError, match=r"^JAX_PLATFORMS: x cannot be used here \(\w[^()]*\w\); unset it"):
            mjxppo.train_policy(PointMass())
    finally:
        jax.config.update("jax_platforms", before)


def test_from_a_shell(tmp_path):
    command = [sys.executable, "-m", "mjxppo", "train", "--env", "hopper", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(
        command, env=os.environ | {"JAX_ENABLE_X64": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.strip().splitlines()[-1].startswith("mjxppo: JAX_ENABLE_X64: true cannot be used")


def test_a_cache_that_cannot_be_written_is_one_line_where_jax_would_end_the_run(tmp_path):
    (tmp_path / "file").touch()
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "file" / "cache"),
        "jax_raise_persistent_cache_errors": True,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        jax.config.update("jax_compilation_cache_dir", settings["jax_compilation_cache_dir"])
        check_jax_settings()  # JAX itself goes on without a cache
        jax.config.update("jax_raise_persistent_cache_errors", True)
        with pytest.raises(
            UserError, match=r"^JAX_COMPILATION_CACHE_DIR: .*cache cannot be written \(Not a directory\)"
        ):
            check_jax_settings()
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
        check_jax_settings()
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
