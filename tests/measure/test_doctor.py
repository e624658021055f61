"""The doctor: it finds what is there, and for everything that is missing it knows the remedy."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import jax
import pytest

from mjxppo import cli, xla
from mjxppo.errors import UserError
from mjxppo.measure import doctor
from mjxppo.render import gl, video
from mjxppo.run import machine


def test_a_sound_installation_is_found_sound_and_printed_as_json(capsys, monkeypatch):
    # Another test's physics may have changed them.
    monkeypatch.setenv("XLA_FLAGS", xla.merge_xla_flags("", 2, xla.has_avx512()))
    assert cli.main(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in result["checks"]}
    assert result["ok"] is True
    assert checks["packages"]["facts"]["jax"] == version("jax")
    assert len(checks["devices"]["facts"]["devices"]) == jax.device_count()
    assert checks["compilation cache"]["facts"]["path"] == jax.config.jax_compilation_cache_dir
    assert {"python", "xla flags", "memory", "opengl", "ffmpeg", "disk", "warp", "onnx", "wandb"} <= set(checks)
    assert all(check["remedy"] for check in checks.values() if check["status"] != "ok")


def test_for_people_it_is_a_table_and_a_problem_is_an_exit_code(capsys, monkeypatch):
    broken = doctor.Check("opengl", "problem", "none", "install EGL")
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("python", "ok", "3.12"), broken])
    assert cli.main(["doctor"]) == 1
    assert "-> install EGL" in capsys.readouterr().out


def test_a_gpu_that_jax_does_not_see_is_a_problem(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho NVIDIA H200\n")
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake) if name == "nvidia-smi" else None)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    check = doctor._devices()
    assert check.status == "problem" and "NVIDIA H200" in check.found and "cuda12" in check.remedy


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        check = doctor._cache()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert check.status == "problem" and "XDG_CACHE_HOME" in check.remedy


def test_other_things_that_are_missing(monkeypatch):
    def no_ffmpeg():
        raise UserError("none")

    monkeypatch.setattr(video, "ffmpeg", no_ffmpeg)
    assert doctor._ffmpeg().status == "problem"
    monkeypatch.setattr(gl, "find_backend", lambda: gl.GlSearch(None, "egl: its library is not installed"))
    assert doctor._opengl().status == "optional" and "its library" in doctor._opengl().found
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=false")
    assert doctor._flags().status == "problem"
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert doctor._python().status == "problem"


@pytest.mark.parametrize(
    "versions, message", [({"mujoco": "4.0.0"}, "differ"), ({"orbax-checkpoint": None}, "missing: orbax-checkpoint")]
)
def test_packages_that_do_not_fit_are_a_problem(versions, message, monkeypatch):
    def fake(package):
        found = versions.get(package, version(package))
        if found is None:
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(machine, "version", fake)
    check = doctor._versions()
    assert check.status == "problem" and message in check.found and check.remedy


def test_a_check_that_fails_is_a_finding_and_not_a_crash(monkeypatch):
    def broken():
        raise ImportError("libdevice.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor, "_ffmpeg", broken)
    (check,) = [check for check in doctor.examine() if check.name == "broken"]
    assert check.status == "problem" and "libdevice.so" in check.found and "\n" not in check.found
