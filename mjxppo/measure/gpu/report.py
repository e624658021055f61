"""A program's report as lines and tables for a person."""

from __future__ import annotations

from typing import Any


def tables(report: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The tables of a report: launches by phase, launches by kind, own kernels, and predicted time by part."""
    update_s = report["predicted_update_s"]
    by_part = report["predicted_update_s_by_part"]
    return [
        [{"phase": name, "launches per update": count} for name, count in report["launches_by_phase"].items()],
        [{"kind": name, "launches per update": count} for name, count in report["launches_by_kind"].items()],
        [_kernel(name, kernel) for name, kernel in report["kernels"].items()],
        [
            {"predicted time of an update": name, "ms": seconds * 1e3, "share": f"{seconds / update_s:.0%}"}
            for name, seconds in by_part.items()
        ],
    ]


def _kernel(name: str, kernel: dict[str, Any]) -> dict[str, Any]:
    return {
        "kernel": name,
        "programs": kernel["programs"],
        "warps": kernel["warps"],
        "registers": kernel["registers"],
        "spilled (B)": None if kernel["registers"] is None else _spilled(kernel),
        "warps resident per core": kernel["resident_warps_per_core"],
    }


def _spilled(kernel: dict[str, Any]) -> str:
    return f"{kernel['spill_store_bytes']} / {kernel['spill_load_bytes']}"


def lines(report: dict[str, Any]) -> list[str]:
    """What a report says in sentences."""
    several = f" x {report['num_devices']}" if report["num_devices"] > 1 else ""
    backend = f", backend {report['backend']}" if report["backend"] else ""
    found = [
        f"{report['env']}{backend}, {report['num_envs']} worlds, compiled for {report['device']}{several} "
        f"(traced in {report['trace_s']:.1f} s, compiled in {report['compile_s']:.1f} s)",
        f"launches: {report['launches_per_update']} an update, {report['launches_per_env_step']:.4g} an environment "
        f"step, {report['launches_per_gradient_step']:.4g} a gradient step; "
        f"{report['launches_in_cuda_graphs'] / max(report['launches_per_update'], 1):.0%} of them in CUDA graphs",
        f"waits for the host: {report['host_waits_per_update']:.4g} an update",
        f"device memory: {report['peak_bytes'] / 2**20:.0f} MiB",
    ]
    collectives = report["collectives_per_update"]
    if collectives["count"]:
        found.append(
            f"collectives: {collectives['count']:.4g} an update, {collectives['bytes'] / 1e6:.3g} MB, "
            f"{collectives['overlapping']:.4g} of them while something else is computed"
        )
    steps = report["predicted_env_steps_per_s"]
    assumed = ", ".join(f"{name} {value:g}" for name, value in report["assumptions"].items())
    return [*found, f"predicted, not measured: {steps:,.0f} environment steps per second, assuming {assumed}"]
