"""The report of ``mjxppo benchmark program``: a configuration's training program as a GPU would run it."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from mjxppo.config.schema import Config, minibatches_per_epoch
from mjxppo.envs.registry import GYMNASIUM
from mjxppo.errors import UserError
from mjxppo.measure.gpu import launches, schedule, topology, traced
from mjxppo.measure.gpu.device import Device
from mjxppo.measure.gpu.estimate import WARP, Assumptions, Estimate, OwnKernel, estimate, own_kernel
from mjxppo.measure.gpu.hlo import Module
from mjxppo.run import machine, start

_PHYSICS = "physics_step"
"""The name of the kernel that takes an environment step."""
_PACKAGES = ("mjxppo", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin")


def check_on_device(config: Config) -> None:
    """Raises UserError where the worlds of a configuration are simulated on the host."""
    if config.env.startswith(f"{GYMNASIUM}:"):
        raise UserError(
            f"config: the worlds of {config.env} are simulated on the host; there is no GPU program of them to compile"
        )


def measure_program(
    config: Config, device: Device, num_devices: int = 1, assumptions: Assumptions | None = None
) -> dict[str, Any]:
    """Compiles a configuration's training program for ``num_devices`` GPUs of a kind, and reads what XLA made of it.

    Returns:
        A report; all numbers are of one device and one update, unless their names say otherwise. Predictions rest on
        ``assumptions``, which are part of the report.

    Raises:
        UserError: the worlds are simulated on the host, or the CUDA plugin is missing or of another version.
    """
    check_on_device(config)
    assumptions = assumptions or Assumptions()
    target = topology.target(device, num_devices)
    jax.config.update("jax_enable_compilation_cache", False)
    program = start.build(config, None, target)
    with topology.pallas_for(device), tempfile.TemporaryDirectory() as dump:
        started = time.perf_counter()
        trace = program.trace()
        lowered = trace.lower()
        traced_at = time.perf_counter()
        compiled = topology.compile_for(lowered, Path(dump))
        compile_s = time.perf_counter() - traced_at
        module = Module(compiled.text)
        in_graphs = schedule.launches_in_graphs(Path(dump), module) or 0.0
    census = launches.census(module)
    traced_kernels = traced.kernels_of(trace, assumptions.solver_iterations)
    own = {name: own_kernel(kernel, compiled.kernels) for name, kernel in traced_kernels.items()}
    predicted = estimate(census, in_graphs, own, device, assumptions)
    updates = config.log.every_updates
    stats = compiled.memory
    return {
        "env": config.env,
        "backend": getattr(getattr(program.env.task.unwrapped, "physics", None), "name", None),
        "device": device.device_description_str,
        "num_devices": num_devices,
        "num_envs": config.ppo.num_envs,
        "env_steps_per_update": program.env_steps_per_update,
        "trace_s": traced_at - started,
        "compile_s": compile_s,
        "peak_bytes": _peak_bytes(stats),
        **_launches(config, census, in_graphs),
        "gigabytes_per_update": sum(each.times * each.bytes for each in census.launches) / updates / 1e9,
        "gigaoperations_per_update": _operations(census, own) / updates / 1e9,
        "collectives_per_update": {k: v / updates for k, v in launches.collectives(module, census).items()},
        "kernel": _assembled(own.get(_PHYSICS)),
        "kernels": {name: _describe(kernel, device) for name, kernel in own.items()},
        **_predictions(predicted, updates, program.env_steps_per_update),
        "assumptions": asdict(assumptions),
        "versions": machine.versions(_PACKAGES),
    }


def _peak_bytes(stats: Any) -> int:
    """Bytes of device memory at the peak: arguments, results that are not written over them, and temporaries."""
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return int(stats.argument_size_in_bytes + results + stats.temp_size_in_bytes)


def _launches(config: Config, census: launches.Census, in_graphs: float) -> dict[str, Any]:
    """Launches and waits of an update, by phase and kind."""
    updates, ppo = config.log.every_updates, config.ppo
    gradient_steps = minibatches_per_epoch(ppo) * ppo.num_epochs
    by_phase = {phase: census.count(phase=phase) / updates for phase in (*launches.PHASES, launches.REST)}
    kinds = sorted({each.kind for each in census.launches})
    env_step = census.body_of("rollout", ppo.rollout_length)
    gradient_step = census.body_of("gradient_steps", gradient_steps)
    return {
        "launches_per_update": math.ceil(census.count() / updates),
        "launches_per_env_step": env_step or by_phase["rollout"] / ppo.rollout_length,
        "launches_per_gradient_step": gradient_step or by_phase["gradient_steps"] / gradient_steps,
        "launches_by_phase": by_phase,
        "launches_by_kind": {kind: census.count(kind) / updates for kind in kinds},
        "launches_in_cuda_graphs": in_graphs / updates,
        "host_waits_per_update": (census.conditionals + census.open_loops) / updates,
        "conditionals_per_update": census.conditionals / updates,
        "open_loops_per_update": census.open_loops / updates,
    }


def _operations(census: launches.Census, own: dict[str, OwnKernel]) -> float:
    ours = {
        name: (kernel.operations_per_thread + kernel.products_per_thread) * kernel.programs * kernel.warps * WARP
        for name, kernel in own.items()
    }
    return sum(each.times * (ours.get(each.kernel, 0) + each.operations) for each in census.launches)


def _assembled(kernel: OwnKernel | None) -> dict[str, int | None] | None:
    if kernel is None:
        return None
    return {name: getattr(kernel, name) for name in ("registers", "spill_store_bytes", "spill_load_bytes")}


def _describe(kernel: OwnKernel, device: Device) -> dict[str, Any]:
    resident = kernel.resident_warps(device)
    threads = resident * WARP * device.core_count
    return asdict(kernel) | {"resident_warps_per_core": resident, "resident_threads": threads}


def _predictions(predicted: Estimate, updates: int, env_steps: int) -> dict[str, Any]:
    """Predicted speeds; nothing of it is measured."""
    update_s = predicted.total / updates
    return {
        "predicted_update_s": update_s,
        "predicted_update_s_by_part": {name: seconds / updates for name, seconds in asdict(predicted).items()},
        "predicted_env_steps_per_s": env_steps / update_s if update_s else None,
    }
