"""Check that every GPU configuration compiles for an H200 and launches no more than it did: ``make gpu-program``.

Each is compiled with the kernel (``planar-pallas``), and those for the time to a return also without (``planar``); so
is the quadruped, whose physics has three dimensions (``spatial-pallas``). With
``--part=1/3`` every third of these programs, from the second on. The recorded numbers are in
tests/data/gpu_program.json, by JAX version; ``--record`` writes them again after a change that is meant.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exhaustive
import jax

CONFIGS = Path(__file__).parents[1] / "configs"
RECORDED = Path(__file__).parent / "data" / "gpu_program.json"
DEVICE = "h200"
TOLERANCE = 1.05
"""The number of launches may grow by this factor."""
NUMBERS = (
    *("launches_per_update", "host_waits_per_update", "launches_per_env_step", "launches_per_gradient_step"),
    *("peak_bytes", "predicted_env_steps_per_s"),
)


def programs() -> list[tuple[str, str]]:
    """Configurations and backends to compile."""
    configs = sorted(path.stem for path in CONFIGS.glob("*_gpu*.yaml"))
    without = [(config, "planar") for config in configs if not config.endswith("throughput")]
    return sorted([*((config, "planar-pallas") for config in configs), *without, ("quadruped", "spatial-pallas")])


def compiled(config: str, backend: str) -> dict[str, Any]:
    """The report of a configuration, from a process of its own."""
    command = [sys.executable, "-m", "mjxppo", "benchmark", "program", "--config", config, "--backend", backend]
    done = subprocess.run([*command, "--device", DEVICE], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"gpu-program: {config} with {backend} does not compile:\n{done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def complaints(report: dict[str, Any], recorded: dict[str, Any] | None) -> list[str]:
    """What is worse than recorded."""
    if recorded is None:
        return ["nothing is recorded for it; make gpu-program ARGS=--record"]
    limits = {"launches_per_update": TOLERANCE * recorded["launches_per_update"]}
    limits["host_waits_per_update"] = recorded["host_waits_per_update"]
    return [
        f"{name} is {report[name]:.4g}, recorded {recorded[name]:.4g}"
        for name, limit in limits.items()
        if report[name] > limit
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles all of them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the numbers instead of comparing with them")
    parser.add_argument("--part", default="all", help="a part of them, such as 0/3, 1/3 or 2/3")
    parsed = parser.parse_args(arguments)
    record = parsed.record
    part, parts = exhaustive.parse(parsed.part)
    chosen = programs()[part::parts]
    known = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    ours, failed = known.setdefault(jax.__version__, {}), False
    # Most of a compilation runs on one core.
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda program: compiled(*program), chosen))
    for (config, backend), report in zip(chosen, reports, strict=True):
        name = f"{config}, {backend}"
        found = [] if record else complaints(report, ours.get(name))
        failed |= bool(found)
        for line in found or ["as recorded" if not record else "recorded"]:
            print(f"gpu-program: {name}: {line} ({report['compile_s']:.0f} s to compile)", file=sys.stderr)
        ours[name] = {number: report[number] for number in NUMBERS}
    if record:
        RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
