"""Starts commands as several processes that train together on this machine, over its loopback device."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_reserved: dict[int, socket.socket] = {}
"""The coordinator's port of each group of processes, by the first one's id, until they have ended."""


def reserve_port() -> socket.socket:
    """A socket that keeps a free port for the coordinator: gRPC shares it, and no other program is given it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


def place(how: str, index: int, count: int, port: int) -> dict[str, str]:
    """The variables that tell a process its place."""
    if how == "slurm":
        return {
            "MJXPPO_COORDINATOR": "auto",
            "JAX_COORDINATOR_PORT": str(port),
            "SLURM_JOB_ID": "1",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_STEP_NUM_NODES": "1",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
        }
    return {
        "MJXPPO_COORDINATOR": f"127.0.0.1:{port}",
        "MJXPPO_NUM_PROCESSES": str(count),
        "MJXPPO_PROCESS_ID": str(index),
    }


def start(*arguments: str, count: int = 2, devices: int = 1, how: str = "explicit") -> list[subprocess.Popen]:
    """``python ARGUMENTS`` in ``count`` processes of ``devices`` host devices each, in the working directory."""
    held = reserve_port()
    port = held.getsockname()[1]
    common = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()} | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=common | place(how, index, count, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    _reserved[processes[0].pid] = held
    return processes


def finish(processes: list[subprocess.Popen], timeout_s: float = 600) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each, when all have ended."""
    try:
        ended = [process.communicate(timeout=timeout_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
        _reserved.pop(processes[0].pid).close()
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, ended, strict=True)]
