"""The benchmarks measure what they say, on a small scale."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjxppo.commands import benchmark
from mjxppo.config import layers
from mjxppo.config.check import make_config
from mjxppo.errors import UserError
from mjxppo.measure import compile as compilation
from mjxppo.measure import physics, scale, train, update_parts
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.run import start


@pytest.mark.exhaustive
@pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")
def test_measures_every_backend_and_relates_them_to_c():
    report = physics.measure_physics(tasks=["half_cheetah"], backends=["c", "mjx"], num_envs=64, num_steps=2, repeats=2)
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
        physics.measure_physics(backends=["planar-pallas:64:2"])
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert "planar-pallas" in physics.default_backends()


def test_a_file_is_read_over_its_tasks_settings(tmp_path):
    (tmp_path / "wide.yaml").write_text("env: halfcheetah\nppo: {num_envs: 2048}\n")
    expected = layers.resolve("half_cheetah", {"ppo": {"num_envs": 2048, "rollout_length": 8}})
    [config] = benchmark._configurations([str(tmp_path / "wide.yaml")], [], {"ppo": {"rollout_length": 8}})
    assert config == expected and config.policy.activation == "silu"
    (tmp_path / "taskless.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"env: .*taskless.yaml names no task"):
        benchmark._configurations([str(tmp_path / "taskless.yaml")], [], {})


@pytest.mark.exhaustive
def test_compile_times_are_measured_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(compilation, "PROGRAMS", ("step",))
    report = compilation.measure_compilation(["hopper"])
    assert report["results"][0]["env"] == "hopper"
    assert report["results"][0]["step_compile_s"] > 0.5, "no cache"
    assert "jax" in report["versions"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [({"tasks": ["cheetah"]}, "tasks"), ({"backends": ["fast"]}, "backends"), ({"num_envs": 7}, "num_envs")],
)
def test_bad_input_names_the_field(bad, field):
    with pytest.raises(UserError, match=field):
        physics.measure_physics(**bad)


VALUES = {
    "env": "brax:fast",
    "ppo": {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 1},
}


@pytest.mark.usefixtures("compiled_quickly")
class TestSplit:
    @pytest.mark.parametrize("backend", ["cpu", "gpu"], ids=["block by block", "all worlds at once"])
    def test_physics_alone_goes_where_the_policy_went(self, backend, monkeypatch):
        monkeypatch.setattr("jax.default_backend", lambda: backend)
        program = start.build(make_config(VALUES | {"num_devices": 1}))
        state = program.init()
        went, batch, *_ = program.collect(state, jax.random.key(0), jnp.int32(program.env_steps_per_update))
        again = update_parts.replay_physics(program, state.env_state, batch.u)
        assert (again.episode_length > 0).all()
        np.testing.assert_allclose(again.obs, went.obs, rtol=1e-6)
        np.testing.assert_allclose(again.episode_return, went.episode_return, rtol=1e-6)

    def test_an_update_has_four_parts(self):
        program = start.build(make_config(VALUES | {"num_devices": 2}))
        parts = update_parts.measure_parts(program, program.init(), repeats=2)
        assert list(parts) == ["physics_ms", "policy_ms", "gae_ms", "gradient_steps_ms"]
        assert parts["physics_ms"] > 0 and parts["gae_ms"] > 0


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_es_is_measured_beside_ppo_but_for_the_parts_that_it_does_not_have():
    sizes = {"num_envs": 32, "block_size": 8, "rollout_length": 8}
    evolution = layers.resolve("brax:fast", {"env": "brax:fast", "algorithm": "es", "ppo": sizes})
    ppo, es = train.measure_training([make_config(VALUES), evolution], 1)["results"]
    assert (ppo["algorithm"], es["algorithm"]) == ("ppo", "es") and ppo.keys() == es.keys()
    assert ppo["relative"] == 1 and es["relative"] == pytest.approx(es["env_steps_per_s"] / ppo["env_steps_per_s"])
    assert ppo["gae_ms"] > 0 and es["gae_ms"] is None
    # A round has 4 updates of 32 worlds and 8 steps; none of these worlds ends early.
    assert es["env_steps_per_s"] * es["update_ms"] / 1e3 == pytest.approx(256)


@pytest.mark.usefixtures("compiled_quickly")
class TestScale:
    @pytest.mark.exhaustive
    def test_weak_and_strong_scaling_and_the_share_of_collectives(self):
        config = make_config(VALUES)
        report = scale.measure_scaling([config], num_devices=(1, 2), repeats=1)
        assert [(row["mode"], row["num_devices"], row["num_envs"]) for row in report["results"]] == [
            *(("weak", 1, 32), ("weak", 2, 64)),
            *(("strong", 1, 32), ("strong", 2, 32)),
        ]
        for row in report["results"]:
            assert row["env_steps_per_s"] > 0 and 0 <= row["collective_share"] < 1
            assert row["gradient_steps"] == 4 and row["gradient_bytes"] % 4 == 0
        assert report["results"][0]["efficiency"] == report["results"][2]["efficiency"] == 1
        json.dumps(report)

    def test_the_program_to_compare_with_has_no_collectives(self):
        program = start.build(make_config(VALUES | {"num_devices": 2}))
        assert "all_reduce" in program.lower().as_text()
        assert "all_reduce" not in scale.without_reductions(program).lower().as_text()

    def test_more_devices_than_there_are_is_one_line(self):
        with pytest.raises(UserError, match="num_devices: 4096 cannot be measured with 8 devices"):
            scale.measure_scaling([], num_devices=(4096,))
