"""JAX's own settings, of a user's shell or script, that a training program cannot work with."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mjxppo.errors import UserError
from mjxppo.files import reason
from mjxppo.xla import jax_setting

_REFUSED = {
    "jax_enable_x64": (True, "training computes in float32"),
    "jax_disable_jit": (True, "a run would take hours for seconds"),
    "jax_no_tracing": (True, "programs are traced"),
    "jax_no_execution": (True, "programs are run"),
    "jax_debug_key_reuse": (True, "JAX's check of keys does not take the branches of an update"),
    "jax_numpy_rank_promotion": ("raise", "arrays are broadcast"),
    "jax_numpy_dtype_promotion": ("strict", "counts are multiplied by floats"),
    "jax_transfer_guard": ("disallow", "programs take constants from the host"),
    "jax_transfer_guard_host_to_device": ("disallow", "programs take constants from the host"),
    "jax_transfer_guard_device_to_host": ("disallow", "metrics come to the host"),
}
"""By the setting's name the value that is refused, and why; ``disallow_explicit`` as ``disallow``."""


def check_jax_settings() -> None:
    """Raises UserError, which names the environment variable and the setting, where one of them is refused."""
    for name, (refused, why) in _REFUSED.items():
        value = jax_setting(name)
        if value is refused or (isinstance(refused, str) and str(value).startswith(refused)):
            given = str(value).lower() if isinstance(value, bool) else value
            raise UserError(f"{name.upper()}: {given} cannot be used ({why}); unset it, or jax.config's {name}")
    _check_cache()


def _check_cache() -> None:
    """Raises UserError where JAX would end the run because it cannot write its compilation cache."""
    directory = jax_setting("jax_compilation_cache_dir")
    if not directory or "://" in directory or not jax_setting("jax_raise_persistent_cache_errors"):
        return
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(
            f"JAX_COMPILATION_CACHE_DIR: {directory} cannot be written ({reason(error)}), which "
            "JAX_RAISE_PERSISTENT_CACHE_ERRORS makes an error; name another directory, or unset one of the two"
        ) from error
