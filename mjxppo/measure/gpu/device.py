"""Descriptions of GPUs that programs are compiled for: those shipped, or a file of the user's.

A description is XLA's ``GpuTargetConfigProto`` as text. XLA reads all of it; the figures that predictions need are read
here as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mjxppo.errors import UserError, hint

_SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "devices").glob("*.txtpb"))}


@dataclass(frozen=True)
class Device:
    """A GPU, as XLA's description of it says."""

    text: str
    """The description, for XLA."""
    device_description_str: str
    """The device's full name."""
    core_count: int
    """Streaming multiprocessors (SMs)."""
    fpus_per_core: int
    """Float32 multiply-adds of one SM in a clock cycle."""
    clock_rate_ghz: float
    memory_bandwidth: float
    """Bytes per second."""
    device_memory_size: int
    """Bytes."""
    threads_per_core_limit: int
    """Threads that an SM holds at most."""
    registers_per_core_limit: int
    """Registers of an SM."""
    major: int
    """Compute capability, before the point."""
    minor: int
    """Compute capability, after the point."""


def read_device(device: str) -> Device:
    """The GPU of a shipped description (h200, a100, rtx4090), or of the text file ``device``.

    Raises:
        UserError: there is no such device, or the file lacks a figure.
    """
    path = _SHIPPED.get(device.lower(), Path(device))
    if not path.is_file():
        if path.suffix or "/" in device:
            raise UserError(f"device: there is no file {device}")
        raise UserError(f"device: {device!r} is unknown; {hint(device, _SHIPPED)}, or the path of a description")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"device: {device} cannot be read as text ({error})") from None
    figures: dict[str, Any] = {field.name: _figure(device, text, field.name) for field in fields(Device)[1:]}
    return Device(text, **figures)


def _figure(device: str, text: str, name: str) -> str | int | float:
    # The version of cuDNN has a major and a minor number, too.
    within = r"cuda_compute_capability\s*\{[^}]*" if name in ("major", "minor") else ""
    found = re.search(rf'{within}\b{name}:\s*(?:"([^"]*)"|(-?[\d.]+))', text)
    if found is None:
        raise UserError(f"device: {device} gives no {name}; a description such as the shipped h200.txtpb has it")
    if found[1] is not None:
        return found[1]
    number = float(found[2]) if found[2].count(".") <= 1 else 0.0
    if number < 0 or (number == 0 and name != "minor"):
        raise UserError(f"device: {device}: {name} must be above 0, not {found[2]}")
    return int(number) if number.is_integer() and name != "clock_rate_ghz" else number
