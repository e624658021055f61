"""What a measurement was made on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from mjxppo import runtime

_PACKAGES = ("mjxppo", "jax", "jaxlib", "mujoco", "mujoco-mjx", "warp-lang", "brax", "flax", "optax", "numpy")


def describe() -> dict[str, Any]:
    """Hardware and versions, as benchmark results carry them."""
    return {"hardware": _hardware(), "versions": _versions()}


def _hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": runtime.usable_cores(),
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
