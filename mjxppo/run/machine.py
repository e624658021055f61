"""Hardware and versions that a run or a measurement was made with."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mjxppo import xla
from mjxppo.files import write_json

FILE = "machine.json"
_PACKAGES = ("mjxppo", "jax", "jaxlib", "mujoco", "mujoco-mjx", "warp-lang", "brax", "flax", "optax", "numpy")


def describe() -> dict[str, Any]:
    """Hardware and versions, as benchmark results carry them; starts JAX's backend."""
    return {"hardware": _hardware(), "versions": versions(_PACKAGES)}


def record(run_dir: Path, update: int, physics: Any = None) -> None:
    """Appends hardware and versions of a start after ``update`` updates to the run's machine.json.

    ``physics``, of the tasks that have one, is what simulates the worlds.
    """
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    simulated = {} if physics is None else {"physics": physics.name, "not_planar": physics.not_planar}
    write_json(
        run_dir / FILE, [*read(run_dir), {"after_update": update, "started": started, **describe(), **simulated}]
    )


def read(run_dir: Path) -> list[dict[str, Any]]:
    """The entries of ``record``, oldest first; empty where the file cannot be read."""
    try:
        entries = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _hardware() -> dict[str, Any]:
    import jax  # versions() does not need it

    return {
        "cpu": cpu_model(),
        "cores": xla.usable_cores(),
        "memory_gib": memory_gib(),
        "platform": xla.platform(),
        "devices": [device.device_kind for device in jax.local_devices()],
    }


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Physical memory, GiB; None where the system does not tell it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of Python and of installed distributions; "not installed" for the others."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            # A checkout on PYTHONPATH is not installed, and an editable installation may have an older version.
            found[package] = _own_version() if package == "mjxppo" else version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _own_version() -> str:
    """This package's version; the package itself has been imported before any of its modules."""
    return str(sys.modules["mjxppo"].__version__)
