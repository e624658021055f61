"""Settings that every test needs: host devices, MuJoCo without a display, the compilation cache."""

import gc
import os
import sys

import pytest

pytest_plugins = ["exhaustive"]

# Tests that show independence of the device count need several devices; unused ones cost nothing. XLA reads its
# flags when the backend starts, so this has to come before anything else.
_flags = os.environ.get("XLA_FLAGS", "")
if "--xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=8".strip()

import mjxppo.xla  # noqa: E402

mjxppo.xla.enable_compilation_cache()


@pytest.fixture
def compiled_quickly(monkeypatch):
    """XLA optimises little: two thirds of the time for tests that compile whole training programs.

    For tests of what a run does and writes. Those that promise the same bits or numbers in several programs, and those
    of what it learns on the real tasks, run the program that users run.
    """
    import jax

    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for processes that the test starts
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def mjx_is_only_traced(monkeypatch):
    """Lets a test make MJX's and Brax's models where XLA aborts on their steps, which the test must not compile."""
    flags = mjxppo.xla.without_multi_output_fusion(os.environ.get("XLA_FLAGS", ""))
    monkeypatch.setenv("XLA_FLAGS", flags)


@pytest.fixture(autouse=True)
def names_of_tasks_are_forgotten():
    """Takes away the names that a test has given to tasks of its own; messages list and suggest names."""
    from mjxppo.envs import registry

    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_freed():
    """Frees the programs that a test file has compiled, of which a whole suite's would take 5 GB in each process."""
    yield
    if "jax" in sys.modules:
        import jax

        jax.clear_caches()
        gc.collect()


def pytest_collection_modifyitems(items):
    """Skips tests marked ``gpu`` where JAX has no GPU."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import jax

    if jax.default_backend() != "gpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
