"""GPUs that are not there, as devices to compile for, and a program compiled for them with what XLA tells of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from mjxppo import xla
from mjxppo.errors import UserError
from mjxppo.measure.gpu.device import Device
from mjxppo.ppo.placement import Target

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


@dataclass(frozen=True)
class Kernel:
    """What the assembler says of one kernel."""

    registers: int
    """Registers of a thread."""
    spill_store_bytes: int
    """Bytes that a thread stores to memory because its registers do not suffice."""
    spill_load_bytes: int


@dataclass(frozen=True)
class Compiled:
    """A program compiled for GPUs."""

    text: str
    memory: Any
    """JAX's ``CompiledMemoryStats``, of one device."""
    kernels: dict[str, Kernel]
    """All kernels that were assembled, by name; empty where the assembler could not be asked."""


def target(device: Device, num_devices: int = 1) -> Target:
    """``num_devices`` GPUs of one host, to compile for.

    Raises:
        UserError: JAX's CUDA plugin is missing or of another version, or XLA cannot read the description.
    """
    plugin = _check_plugin()
    from jax.experimental import topologies  # only this function needs it

    # Without a list of platforms JAX would look for a GPU and say that it finds none.
    if not xla.backend_is_up():
        jax.config.update("jax_platforms", "cpu")
    jax.devices()  # starts the backend, which registers the plugin
    try:
        description = topologies.get_topology_desc(
            "gpu", platform="cuda", target_config=device.text, topology=f"1x1x{num_devices}"
        )
    except Exception as error:
        raise UserError(f"device: {plugin} cannot compile for it: {str(error).splitlines()[0]}") from None
    return Target("gpu", tuple(description.devices))


def _check_plugin() -> str:
    """The installed CUDA plugin's name; raises UserError where there is none that fits."""
    own = version("jaxlib")
    remedy = f'pip install "jax[cuda12]=={version("jax")}"'
    for plugin in _PLUGINS:
        try:
            found = version(plugin)
        except PackageNotFoundError:
            continue
        if found != own:
            raise UserError(f"device: {plugin} {found} does not fit jaxlib {own}; {remedy}")
        return plugin
    raise UserError(f"device: compiling for a GPU needs JAX's CUDA plugin; make gpu-program has one, or {remedy}")


@contextmanager
def pallas_for(device: Device) -> Iterator[None]:
    """Within it, Pallas lowers kernels for the device instead of asking JAX which GPU is there."""
    try:
        from jax._src.pallas.triton import gpu_info  # type: ignore[attr-defined, unused-ignore]  # JAX 0.11 and later; 0.10 does not ask
    except ImportError:
        yield
        return
    known = gpu_info.registry.get("cpu")
    info = gpu_info.GpuInfo(
        gpu_version=None,
        arch_name=f"{device.major}.{device.minor}",
        compute_capability=10 * device.major + device.minor,
    )
    gpu_info.registry["cpu"] = lambda: info
    try:
        yield
    finally:
        del gpu_info.registry["cpu"]
        if known is not None:
            gpu_info.registry["cpu"] = known


def compile_for(lowered: jax.stages.Lowered, dump: Path) -> Compiled:
    """Compiles a program; XLA writes its schedule to the directory ``dump``."""
    with tempfile.TemporaryDirectory() as name:
        toolkit = Path(name)
        options = {"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True, **_verbose_assembler(toolkit)}
        compiled = lowered.compile(compiler_options=options)
        log = toolkit / "log"
        kernels = read_assembler(log.read_text()) if log.is_file() else {}
    return Compiled(compiled.as_text() or "", compiled.memory_analysis(), kernels)


def _verbose_assembler(toolkit: Path) -> dict[str, Any]:
    """Compiler options with which XLA calls an assembler that logs registers and spills to ``toolkit/log``."""
    from jax._src.lib import cuda_path  # where the plugin's package has CUDA's tools; JAX does not say it elsewhere

    ptxas = Path(cuda_path or "") / "bin" / "ptxas"
    if not ptxas.is_file():
        return {}
    (toolkit / "bin").mkdir()
    (toolkit / "nvvm").symlink_to(ptxas.parents[1] / "nvvm")
    # XLA reads the assembler's version out of its complaints, so they go to both.
    wrapper = toolkit / "bin" / "ptxas"
    wrapper.write_text(
        f'#!/bin/sh\nsaid=$(mktemp)\n"{ptxas}" -v "$@" 2>"$said"\nstatus=$?\n'
        f'cat "$said" >>"{toolkit}/log"\ncat "$said" >&2\nrm -f "$said"\nexit $status\n'
    )
    wrapper.chmod(0o755)
    return {
        "xla_gpu_cuda_data_dir": str(toolkit),
        "xla_gpu_enable_libnvptxcompiler": False,
        "xla_gpu_libnvjitlink_mode": "LIB_NV_JIT_LINK_MODE_DISABLED",
    }


def read_assembler(log: str) -> dict[str, Kernel]:
    """Registers and spilled bytes of each kernel in what ``ptxas -v`` prints."""
    kernels = {}
    for part in re.split(r"(?=Compiling entry function )", log)[1:]:
        name = re.match(r"Compiling entry function '([^']*)'", part)
        registers = re.search(r"Used (\d+) registers", part)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        if name and registers and spilled:
            kernels[name[1]] = Kernel(int(registers[1]), int(spilled[1]), int(spilled[2]))
    return kernels
