"""Settings that every test needs: host devices, MuJoCo without a display, the compilation cache."""

import os

# Tests that show independence of the device count need several devices; unused ones cost nothing. XLA reads its
# flags when the backend starts, so this has to come before anything else.
_flags = os.environ.get("XLA_FLAGS", "")
if "--xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=8".strip()

import mjxppo.runtime  # noqa: E402

mjxppo.runtime.enable_compilation_cache()


def pytest_collection_modifyitems(items):
    """Skips tests marked ``gpu`` where JAX has no GPU."""
    import pytest

    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import jax

    if jax.default_backend() != "gpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
