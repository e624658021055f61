"""Checks of everything that the package needs from the machine, with a remedy for what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mjxppo import xla
from mjxppo.errors import UserError
from mjxppo.run import machine

Status = Literal["ok", "optional", "problem"]

_PACKAGES = (
    *("mjxppo", "jax", "jaxlib", "mujoco", "mujoco-mjx", "gymnasium", "brax", "flax", "optax", "orbax-checkpoint"),
    *("numpy", "mediapy", "imageio-ffmpeg", "tensorboardX"),
)
_EXTRAS = {
    "warp": (("warp",), "the mjx-warp physics backend"),
    "onnx": (("onnx", "onnxruntime"), "export to ONNX"),
    "wandb": (("wandb",), "logging to Weights & Biases"),
    "view": (("viser",), "mjxppo view, the live view in the browser"),
}
_MIN_FREE_GIB = 2.0


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    status: Status
    """"ok"; "optional": missing, but the shipped tasks do not need it; "problem": something will not work."""
    found: str
    remedy: str = ""
    """What the user can do; empty where nothing is needed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The findings as values, for programs."""


def examine() -> list[Check]:
    """Runs all checks; starts JAX's backend in this process, and tries OpenGL in processes of its own."""
    checks: list[Callable[[], Check]] = [_python, _versions, _devices, _flags, _memory]
    checks += [_cache, _opengl, _ffmpeg, _disk, *(lambda e=extra: _extra(e) for extra in _EXTRAS)]
    return [_run_check(check) for check in checks]


def to_dict(checks: list[Check]) -> dict[str, Any]:
    """The results, ready for JSON."""
    return {"ok": all(check.status != "problem" for check in checks), "checks": [asdict(check) for check in checks]}


def _run_check(check: Callable[[], Check]) -> Check:
    """Runs a check; an exception, which a broken installation may raise, becomes a problem."""
    try:
        return check()
    except Exception as error:
        name = getattr(check, "__name__", "check").strip("_")
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Check(name, "problem", reason, "install again: make setup, or pip install --force-reinstall mjxppo")


def _python() -> Check:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", "ok" if fits else "problem", found, "" if fits else "use Python 3.11, 3.12 or 3.13")


def _versions() -> Check:
    versions = machine.versions(_PACKAGES)
    missing = [name for name, number in versions.items() if number == "not installed"]
    found = ", ".join(f"{name} {number}" for name, number in versions.items() if name != "python")
    if missing:
        return Check("packages", "problem", f"missing: {', '.join(missing)}", "make setup", versions)
    if versions["mujoco"] != versions["mujoco-mjx"]:
        pin = f"pip install mujoco=={versions['mujoco-mjx']}"
        return Check("packages", "problem", f"mujoco and mujoco-mjx differ: {found}", pin, versions)
    return Check("packages", "ok", found, facts=versions)


def _devices() -> Check:
    gpu = _nvidia()
    import jax  # within the check: an installation that fails to import is a finding

    devices = [device.device_kind for device in jax.devices()]
    platform = xla.platform()
    kinds = ", ".join(f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices))
    facts = {"platform": platform, "devices": devices, "nvidia": gpu}
    if gpu and platform == "cpu":
        remedy = "make setup EXTRAS=cuda12 (or cuda13), or pip install 'mjxppo[cuda12]'"
        return Check("devices", "problem", f"{kinds}; {gpu} is there, but JAX does not see it", remedy, facts)
    processor = f" ({machine.cpu_model()}, {xla.usable_cores()} cores)" if platform == "cpu" else ""
    return Check("devices", "ok", f"{kinds} on {platform}{processor}", facts=facts)


def _nvidia() -> str | None:
    """The names of the NVIDIA GPUs that the driver lists; None where there are none or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return ", ".join(names) if done.returncode == 0 and names else None


def _flags() -> Check:
    flags = os.environ.get("XLA_FLAGS", "")
    fused = f"{xla.MULTI_OUTPUT_FUSION}=true" in flags
    remedy = "" if fused else f"take {xla.MULTI_OUTPUT_FUSION} out of XLA_FLAGS; without it physics on a CPU is slow"
    return Check("xla flags", "ok" if fused else "problem", flags, remedy)


def _memory() -> Check:
    total = machine.memory_gib()
    found = "unknown" if total is None else f"{total} GiB"
    return Check("memory", "ok", found, facts={"memory_gib": total})


def _cache() -> Check:
    path = xla.enable_compilation_cache()
    if path is None or not os.access(path, os.W_OK):
        place = path or xla.default_cache_dir()
        remedy = "make it writable, or set XDG_CACHE_HOME; until then every start compiles everything"
        return Check("compilation cache", "problem", f"{place} cannot be written", remedy, {"path": str(place)})
    sizes = [file.stat().st_size for file in Path(path).rglob("*") if file.is_file()]
    limit = xla.cache_limit_bytes()
    bound = f"at most {limit / 2**30:.1f} GiB" if limit > 0 else "without a bound"
    facts = {"path": str(path), "bytes": sum(sizes), "files": len(sizes), "max_bytes": limit}
    return Check("compilation cache", "ok", f"{path}: {sum(sizes) / 2**20:,.0f} MiB, {bound}", facts=facts)


def _opengl() -> Check:
    from mjxppo.render import gl  # within the check, as JAX

    search = gl.find_backend()
    facts = {"backend": search.backend, "tried": gl.candidates(), "problem": search.problem}
    if search.backend is None:
        found = f"none ({search.problem}); videos will be plain 2-D drawings"
        return Check("opengl", "optional", found, gl.advice(), facts)
    return Check("opengl", "ok", f"{search.backend}, drawn a test picture", facts=facts)


def _ffmpeg() -> Check:
    from mjxppo.render.video import ffmpeg  # within the check, as JAX

    try:
        program = ffmpeg()
    except UserError:
        return Check("ffmpeg", "problem", "none; no mp4 or gif can be written", "pip install imageio-ffmpeg")
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20)
    version = done.stdout.split("Copyright")[0].strip() or f"exit status {done.returncode}"
    status: Status = "ok" if done.returncode == 0 else "problem"
    remedy = "" if status == "ok" else "pip install --force-reinstall imageio-ffmpeg"
    return Check("ffmpeg", status, f"{version} at {program}", remedy, {"path": program})


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= _MIN_FREE_GIB
    remedy = "" if enough else "free some space, or put runs elsewhere with --run-dir"
    return Check("disk", "ok" if enough else "problem", f"{free:.1f} GiB free here", remedy, {"free_gib": free})


def _extra(name: str) -> Check:
    modules, purpose = _EXTRAS[name]
    if all(importlib.util.find_spec(module) for module in modules):
        return Check(name, "ok", f"installed, for {purpose}")
    remedy = f"make setup EXTRAS={name}, or pip install 'mjxppo[{name}]'"
    return Check(name, "optional", f"not installed; needed for {purpose}", remedy)
