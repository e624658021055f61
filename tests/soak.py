"""Test for leaks, slowdown and non-finite numbers in a very long training run: ``make soak``.

Runs a shipped configuration with a large budget, samples the memory of the process and of its devices, and compares
tenths of the run. It fails if memory grows by more than 5 % after the first tenth, if the last tenth is more than 10 %
slower than the second, or if a world or a gradient became non-finite.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax

from mjxppo.config.check import make_config
from mjxppo.config.values import defaults_for
from mjxppo.console import human, say
from mjxppo.envs.registry import canonical_name
from mjxppo.run import loop, start
from mjxppo.run.directory import open_run_dir
from mjxppo.run.metrics import Row, read_rows

MOST_GROWTH, MOST_SLOWDOWN = 0.05, 0.10
_PARTS = 10
_SAMPLE_S = 1.0


class Sample(NamedTuple):
    """Memory at one time."""

    time_s: float
    rss: int
    """Resident memory of the process, bytes."""
    device: int
    """Bytes allocated on the process's devices; 0 where the devices do not report them, as on a CPU."""


class Sampler(threading.Thread):
    """Thread that samples this process's memory until ``stop`` is called."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(_SAMPLE_S):
            self.samples.append(Sample(time.perf_counter(), resident_bytes(), device_bytes()))

    def stop(self) -> None:
        """Ends the sampling."""
        self._stop_asked.set()
        self.join()


def resident_bytes() -> int:
    """Resident memory of this process, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status names no VmRSS")


def device_bytes() -> int:
    """Bytes allocated on this process's devices; 0 where the devices do not report them."""
    return sum((device.memory_stats() or {}).get("bytes_in_use", 0) for device in jax.local_devices())


def tenths(rows: list[Row], samples: list[Sample], finished: float) -> list[dict[str, float]]:
    """Throughput, memory and non-finite counts of each tenth of the run's updates.

    Args:
        rows: the run's metrics.
        samples: samples of memory, with the times of ``time.perf_counter``.
        finished: the time of the last row, on the same clock.
    """
    offset = finished - rows[-1]["time_s"]
    edges = [round(i * len(rows) / _PARTS) for i in range(_PARTS + 1)]
    parts = []
    for first, last in itertools.pairwise(edges):
        part = rows[first:last]
        start = rows[first - 1] if first else {"time_s": 0.0, "env_steps": 0}
        seconds = part[-1]["time_s"] - start["time_s"]
        inside = [s for s in samples if start["time_s"] <= s.time_s - offset <= part[-1]["time_s"]]
        parts.append(
            {
                "env_steps": part[-1]["env_steps"],
                "env_steps_per_s": (part[-1]["env_steps"] - start["env_steps"]) / max(seconds, 1e-9),
                "rss_mb": median(s.rss for s in inside) / 1e6 if inside else float("nan"),
                "device_mb": median(s.device for s in inside) / 1e6 if inside else float("nan"),
                "nonfinite": sum(row["nonfinite_steps"] + row["skipped_gradient_steps"] for row in part),
            }
        )
    return parts


def problems(parts: list[dict[str, float]]) -> list[str]:
    """The problems of a run with the given tenths, in words; the first tenth is warm-up and does not count."""
    found = []
    for name, what in (("rss_mb", "resident memory"), ("device_mb", "device memory")):
        before, after = parts[1][name], parts[-1][name]
        if after > (1 + MOST_GROWTH) * before:
            found.append(f"{what} grew from {before:.0f} to {after:.0f} MB")
    before, after = parts[1]["env_steps_per_s"], parts[-1]["env_steps_per_s"]
    if after < (1 - MOST_SLOWDOWN) * before:
        found.append(f"throughput fell from {human(before)} to {human(after)} steps/s")
    nonfinite = sum(part["nonfinite"] for part in parts)
    if nonfinite:
        found.append(f"{nonfinite:.0f} worlds or gradients became non-finite")
    return found


def soak(env: str, env_steps: int, directory: Path) -> dict[str, Any]:
    """Trains a task's shipped configuration for ``env_steps`` in ``directory``; returns the report."""
    config = make_config(defaults_for(canonical_name(env)))
    config = replace(config, total_env_steps=env_steps)
    sampler = Sampler()
    with open_run_dir(directory, config, resume=False):
        program = start.build(config)
        sampler.start()
        outcome = loop.train(program, directory)
        finished = time.perf_counter()
        sampler.stop()
    parts = tenths(read_rows(directory), sampler.samples, finished)
    return {
        "env": config.env,
        "env_steps": outcome.env_steps,
        "train_s": round(outcome.train_s, 1),
        "env_steps_per_s": round(outcome.new_env_steps / outcome.train_s),
        "expected_return": outcome.expected_return,
        "tenths": parts,
        "problems": problems(parts),
    }


def main() -> int:
    """Runs the command; prints the report as JSON and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="half_cheetah")
    parser.add_argument("--env-steps", type=int, default=500_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report = soak(args.env, args.env_steps, Path(directory) / "run")
    print(json.dumps(report, indent=1))
    for problem in report["problems"]:
        say(f"soak: {problem}")
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
