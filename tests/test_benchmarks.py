"""The benchmarks measure what they say, on a small scale."""

import json

import pytest

from mjxppo.benchmarks import compile as compilation
from mjxppo.benchmarks import physics
from mjxppo.errors import UserError
from mjxppo.physics.mjx.model import compiler_aborts


@pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")
def test_measures_every_backend_and_relates_them_to_c():
    report = physics.run(tasks=["half_cheetah"], backends=["c", "mjx"], num_envs=64, num_steps=2, repeats=2)
    c, ours = report["results"]
    assert (c["backend"], ours["backend"]) == ("c", "mjx")
    assert c["ratio_to_c"] == 1
    assert ours["ratio_to_c"] == pytest.approx(ours["env_steps_per_s"] / c["env_steps_per_s"])
    assert ours["ratio_to_stock"] is None
    assert ours["compile_s"] > 0
    assert {"jax", "mujoco"} <= set(report["versions"])
    assert report["fastest"] == {"half_cheetah": "mjx"}
    json.dumps(report)


def test_the_kernel_competes_on_a_gpu_only(monkeypatch):
    assert "planar-pallas" not in physics.default_backends()
    with pytest.raises(UserError, match="GPU"):
        physics.run(backends=["planar-pallas:64:2"])
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert "planar-pallas" in physics.default_backends()


def test_compile_times_are_measured_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(compilation, "PROGRAMS", ("step",))
    report = compilation.run(["hopper"])
    assert report["results"][0]["env"] == "hopper"
    assert report["results"][0]["step_compile_s"] > 0.5, "no cache"
    assert "jax" in report["versions"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [({"tasks": ["cheetah"]}, "tasks"), ({"backends": ["fast"]}, "backends"), ({"num_envs": 7}, "num_envs")],
)
def test_bad_input_names_the_field(bad, field):
    with pytest.raises(UserError, match=field):
        physics.run(**bad)
