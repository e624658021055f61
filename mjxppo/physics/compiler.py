"""The setting of XLA:CPU that MJX and Brax cannot be compiled with before JAX 0.12; it has to be left out in time."""

from __future__ import annotations

import os
import re

import jax

from mjxppo import xla
from mjxppo.errors import UserError


def compiler_aborts() -> bool:
    """Whether compiling functions of MJX or Brax would end this process.

    Before JAX 0.12, XLA:CPU fails an internal check on their scatters (``symbolic_map.cc``: "Number of dimensions of
    this map must match") if multi-output fusion is on; merely naming the option turns it on.
    """
    fusion = re.search(r"xla_cpu_use_multi_output_fusion(?!\w)", os.environ.get("XLA_FLAGS", ""))
    return is_affected() and fusion is not None and xla.platform() == "cpu"


def is_affected() -> bool:
    """Whether the installed JAX is one whose compiler can abort."""
    return jax.__version_info__ < (0, 12)


def allow_mjx() -> None:
    """Removes the setting that makes the compiler abort. Has no effect once the JAX backend has started."""
    if is_affected() and not xla.backend_is_up():
        xla.forgo_multi_output_fusion()


def check_compiler(what: str = "mjx", field: str = "physics.backend") -> None:
    """Removes that setting, for the sake of ``what``; raises UserError where the JAX backend has started with it.

    The message begins with the ``field``.
    """
    allow_mjx()
    if compiler_aborts():
        raise UserError(
            f"{field}: JAX {jax.__version__} cannot compile {what} with the settings that planar is fast with; make "
            "the environment before any other JAX computation of the process, or use Python 3.12 or later (jax>=0.12)"
        )
