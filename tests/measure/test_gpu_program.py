"""``mjxppo benchmark program``: what it reads in a compiled program, in XLA's schedule and in the assembler's words."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import gpu_program
import jax
import jax.numpy as jnp
import pytest

from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.values import merge, read_named
from mjxppo.errors import UserError
from mjxppo.measure.gpu import launches, program, schedule, topology, traced
from mjxppo.measure.gpu.device import read_device
from mjxppo.measure.gpu.estimate import Assumptions, OwnKernel, estimate, own_kernel
from mjxppo.measure.gpu.hlo import Module, num_bytes

DATA = Path(__file__).parents[1] / "data"
TEXT = (DATA / "gpu_program.hlo").read_text()
SCHEDULE = (DATA / "gpu_program_schedule.txt").read_text()
"""A small program and its schedule, as XLA prints them."""


@pytest.fixture(scope="module")
def module() -> Module:
    return Module(TEXT)


@pytest.fixture(scope="module")
def census(module) -> launches.Census:
    return launches.census(module)


def test_launches_are_counted_by_phase_and_kind_with_the_longer_branch(census):
    assert census.count() == 16 * 4 + 1 + 4
    assert census.count(phase="rollout") == 64 and census.count(phase="gradient_steps") == 1
    assert census.count(phase=launches.REST) == 4
    assert census.count(launches.PRODUCT) == census.count(launches.OURS) == 16
    assert census.count(launches.REDUCTION) == census.count(launches.COLLECTIVE) == 1
    assert census.count(launches.COPY) == 16 * 2 + 3
    assert census.body_of("rollout", 16) == 4 and census.body_of("gradient_steps", 16) is None
    assert (census.conditionals, census.open_loops) == (1, 0)


def test_a_loop_of_unknown_length_waits_for_the_host():
    census = launches.census(Module(TEXT.replace('"known_trip_count":{"n":"16"}', "")))
    assert census.open_loops == 1 and census.count(phase="rollout") == 4


def test_bytes_and_operations_are_those_of_what_is_touched(module, census):
    by_name = {each.name: each for each in census.launches}
    assert by_name["h"].operations == 2 * 8 * 64 * 17
    assert by_name["h"].bytes == 4 * (8 * 17 + 17 * 64 + 8 * 64)
    assert by_name["f"].bytes == 4 * (8 + 1 + 8), "one row of the array is written, none is read"
    assert by_name["sum"].operations == 8 * 64
    assert by_name["k"].kernel == "physics_step"
    assert num_bytes("(f32[2,3]{1,0}, pred[5]{0}, s32[])") == 24 + 5 + 4


def test_collectives_that_run_beside_other_work(module, census):
    assert launches.collectives(module, census) == {"count": 1, "bytes": 32, "overlapping": 1}
    alone = Module(TEXT.replace("  %n3 = f32[8]{0} copy(%n2)\n", ""))
    assert launches.collectives(alone, launches.census(alone))["overlapping"] == 0


def test_the_schedule_says_what_is_in_a_cuda_graph(module, tmp_path):
    assert schedule.launches_in_graphs(tmp_path, module) is None
    (tmp_path / "a.thunk_sequence_after_thunk_passes.txt").write_text(SCHEDULE)
    assert schedule.launches_in_graphs(tmp_path, module) == 16 * 2 + 3
    (tmp_path / "a.thunk_sequence_after_thunk_passes.txt").write_text(SCHEDULE.replace("kWhile", "kCopy"))
    assert schedule.launches_in_graphs(tmp_path, module) is None, "a loop is missing"


def test_the_assembler_tells_registers_and_spills():
    log = (
        "ptxas info    : Compiling entry function 'physics_step' for 'sm_90a'\n"
        "ptxas info    : Function properties for physics_step\n"
        "    96 bytes stack frame, 36 bytes spill stores, 32 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 0 barriers\n"
    )
    assert topology.read_assembler(log) == {"physics_step": topology.Kernel(255, 36, 32)}


def test_a_warp_alone_waits_and_many_share_the_schedulers():
    device, assumed = read_device("h200"), Assumptions()
    assembled = {"k": topology.Kernel(255, 0, 0)}
    few = own_kernel(traced.TracedKernel("k", device.core_count, 1, 32 * 1000, 0), assembled)
    assert few.resident_warps(device) == 8
    assert few.seconds(device, assumed) == pytest.approx(1000 * 5 / 1.98e9)
    eight = OwnKernel("k", 8 * device.core_count, 1, 1000, 0, 255, 0, 0)
    assert eight.seconds(device, assumed) == few.seconds(device, assumed), "eight warps hide each other's latency"
    nine = OwnKernel("k", 9 * device.core_count, 1, 1000, 0, 255, 0, 0)
    assert nine.seconds(device, assumed) == 2 * few.seconds(device, assumed), "the ninth has to wait for registers"


def test_an_estimate_adds_launches_and_waits(census):
    slow = Assumptions(launch_us=1000.0, graph_launch_us=100.0, host_wait_us=5000.0)
    seconds = estimate(census, 0, {}, read_device("h200"), slow)
    assert seconds.total == pytest.approx(69 * 1e-3 + 5e-3) and seconds.waiting == 5e-3
    in_graphs = estimate(census, 69, {}, read_device("h200"), slow)
    assert in_graphs.launching == pytest.approx(69 * 1e-4)


def test_operations_of_a_kernel_of_ours():
    from jax.experimental import pallas as pl

    def kernel(x_ref, out_ref):
        x = jax.lax.fori_loop(0, 10, lambda _, x: x * 2.0, x_ref[...])
        out_ref[...] = jax.lax.while_loop(lambda x: x.sum() < 5.0, lambda x: x + 1.0, x)

    call = pl.pallas_call(kernel, jax.ShapeDtypeStruct((64,), jnp.float32), grid=(4,), name="mine", interpret=True)
    found = traced.kernels_of(jax.jit(call).trace(jnp.zeros(64)), iterations=2)["mine"]
    assert (found.programs, found.warps) == (4, 4)
    assert 64 * 12 <= found.operations <= 64 * 12 + 200


def test_devices_are_shipped_or_described_in_a_file(tmp_path):
    assert [read_device(name).core_count for name in ("h200", "a100", "rtx4090")] == [132, 108, 128]
    other = tmp_path / "mine.txtpb"
    other.write_text(read_device("h200").text.replace("core_count: 132", "core_count: 66"))
    assert read_device(str(other)).core_count == 66
    other.write_text("core_count: 66")
    with pytest.raises(UserError, match=r"device: .*mine.txtpb gives no device_description_str"):
        read_device(str(other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "h20"], "device: 'h20' is unknown; did you mean h200?"),
        (["--device", "none.txtpb"], "device: there is no file none.txtpb"),
        (["--config", "gymnasium"], "config: the worlds of gymnasium:"),
        (["--num-devices", "0"], "num_devices: must be at least 1, not 0"),
        (["--backend", "planer"], "backend"),
    ],
)
def test_what_cannot_be_compiled_is_one_line(options, message, capsys):
    assert cli.main(["benchmark", "program", *options]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and message in error


def test_a_missing_plugin_and_one_of_another_version_are_one_line(monkeypatch):
    def installed(**versions):
        def find(name):
            if name not in versions:
                raise topology.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(topology, "version", find)

    installed(jax="0.12.0", jaxlib="0.12.0")
    with pytest.raises(UserError, match=r'needs JAX\'s CUDA plugin; .* pip install "jax\[cuda12\]==0.12.0"'):
        topology.target(read_device("h200"))
    installed(jax="0.12.0", jaxlib="0.12.0", **{"jax-cuda12-plugin": "0.11.2"})
    with pytest.raises(UserError, match=r"jax-cuda12-plugin 0.11.2 does not fit jaxlib 0.12.0"):
        topology.target(read_device("h200"))


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs JAX's CUDA plugin")
def test_a_whole_program_compiled_for_a_gpu():
    small = {"num_envs": 256, "rollout_length": 4, "num_minibatches": 2, "num_epochs": 2, "block_size": 128}
    values = merge(read_named("hopper"), {"ppo": small, "num_devices": 1, "log": {"every_updates": 1}})
    report = program.measure_program(make_config(values), read_device("h200"))
    json.dumps(report)
    assert report["backend"] == "planar-pallas" and report["kernel"]["registers"] <= 255
    assert report["launches_by_kind"][launches.OURS] == 4
    assert report["host_waits_per_update"] <= 1
    assert report["launches_per_update"] > 4 * report["launches_per_env_step"]
    assert 0 < report["predicted_env_steps_per_s"] < 1e9


def test_more_launches_or_waits_than_recorded_are_complaints():
    recorded = {"launches_per_update": 1000, "host_waits_per_update": 1}
    assert not gpu_program.complaints({"launches_per_update": 1050, "host_waits_per_update": 1}, recorded)
    worse = gpu_program.complaints({"launches_per_update": 1051, "host_waits_per_update": 2}, recorded)
    assert worse == ["launches_per_update is 1051, recorded 1000", "host_waits_per_update is 2, recorded 1"]
    assert "nothing is recorded" in gpu_program.complaints({}, None)[0]
