"""Process-wide XLA settings, chosen before the JAX backend starts.

XLA reads its flags once, when the first backend starts, so they have to be in the environment by then. These
settings matter on a CPU:

* ``xla_cpu_use_multi_output_fusion``: without it XLA:CPU duplicates producers into their consumers, which makes
  the planar physics more than ten times slower;
* ``xla_cpu_prefer_vector_width=512``, where the processor has AVX-512: LLVM uses half of its width by itself. A tenth
  more training steps a second, and compilation is shorter as well;
* ``xla_cpu_disable_loop_unrolling``, on other processors: LLVM then compiles in two thirds of the time. Physics is as
  fast, because its loops are long elementwise expressions over blocks of worlds, and training 7 % slower;
* one host device per core, and at least two: a ``shard_map`` over host devices uses all cores, intra-op threads
  only about half. XLA compiles programs for one device along another path than programs for several, with other
  last bits; with two at least, results do not depend on the number of cores;
* the persistent compilation cache, so that the second start of a program does not compile again.

A user's own ``XLA_FLAGS`` and ``JAX_COMPILATION_CACHE_DIR`` are respected and merged. This module does not
import JAX.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mjxppo.errors import UserError

if TYPE_CHECKING:
    import jax

MULTI_OUTPUT_FUSION = "xla_cpu_use_multi_output_fusion"
_NO_LOOP_UNROLLING = "xla_cpu_disable_loop_unrolling"
_VECTOR_WIDTH = "--xla_cpu_prefer_vector_width="
_EXTRA_OPTIONS = "--xla_backend_extra_options="
_CACHE_BYTES = 2 * 1024**3
_DEVICE_COUNT = "--xla_force_host_platform_device_count="
_REFUSED_BY_JAX = re.compile(r"""^invalid (?:truth )?value ["'](.*)["'] for (?:JAX flag|environment) '?(\w+)""", re.I)
_NAME = re.compile(r"%[\w.\-]+")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?(%[\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(([^)]*)\)", re.MULTILINE)
"""An instruction's name, kind and operands."""


def usable_cores() -> int:
    """Number of CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_avx512() -> bool:
    """Whether this machine's processor has AVX-512 (as far as Linux says)."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(errors="replace").split()
    except OSError:
        return False


def merge_xla_flags(user_flags: str, num_host_devices: int, avx512: bool) -> str:
    """The value of ``XLA_FLAGS`` with this package's flags added to ``user_flags``, which take precedence.

    ``num_host_devices`` is the number of host devices; ``avx512`` says whether the processor has AVX-512.
    """
    flags = user_flags.split()
    if not any(flag.startswith(_DEVICE_COUNT) for flag in flags):
        flags.append(f"{_DEVICE_COUNT}{num_host_devices}")
    if avx512 and not any(flag.startswith(_VECTOR_WIDTH) for flag in flags):
        flags.append(f"{_VECTOR_WIDTH}512")
    switched_on = (MULTI_OUTPUT_FUSION,) if avx512 else (MULTI_OUTPUT_FUSION, _NO_LOOP_UNROLLING)
    extra = [i for i, flag in enumerate(flags) if flag.startswith(_EXTRA_OPTIONS)]
    missing = [f"{option}=true" for option in switched_on if not any(option in flags[i] for i in extra)]
    if extra and missing:
        flags[extra[-1]] = ",".join((flags[extra[-1]], *missing))
    elif missing:
        flags.append(_EXTRA_OPTIONS + ",".join(missing))
    return " ".join(flags)


def without_multi_output_fusion(flags: str) -> str:
    """``XLA_FLAGS`` that do not name multi-output fusion (merely naming it as false would turn it on in JAX 0.10)."""
    kept = []
    for flag in flags.split():
        if flag.startswith(_EXTRA_OPTIONS):
            options = flag.removeprefix(_EXTRA_OPTIONS).split(",")
            options = [option for option in options if not option.startswith(MULTI_OUTPUT_FUSION)]
            flag = _EXTRA_OPTIONS + ",".join(options) if options else ""
        kept.append(flag)
    return " ".join(flag for flag in kept if flag)


def forgo_multi_output_fusion() -> None:
    """Removes multi-output fusion from this process's flags; only has an effect before the backend starts."""
    os.environ["XLA_FLAGS"] = without_multi_output_fusion(os.environ.get("XLA_FLAGS", ""))


def compile_checked(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a program; without multi-output fusion where that would make it compute something else.

    XLA:CPU may, in JAX 0.10 to 0.12, fuse an update of a part of an array, such as ``x.at[0].set(y)``, with another
    reading of it, such as ``x[::-1]``, although it makes the update in place: the reading then finds numbers that the
    update has already written. No program of this package has such a fusion; one with a user's environment may.
    """
    compiled = lowered.compile()
    if MULTI_OUTPUT_FUSION in os.environ.get("XLA_FLAGS", "") and reads_what_it_overwrites(compiled.as_text() or ""):
        compiled = lowered.compile({_EXTRA_OPTIONS.strip("-="): ""})
    return compiled


def reads_what_it_overwrites(hlo: str) -> bool:
    """Whether a fusion in a compiled program's text updates an array in place, and has another result made of it."""
    for computation in re.split(r"\n{2,}", hlo):
        if " dynamic-update-slice(" not in computation:
            continue
        operands = {name: (kind, _NAME.findall(rest)) for name, kind, rest in _INSTRUCTION.findall(computation)}
        last, results = operands[next(reversed(operands))]
        for result in results if last == "tuple" else ():
            kind, read = operands.get(result, ("", []))
            others = (other for other in results if other != result)
            if kind == "dynamic-update-slice" and any(_depends_on(operands, other, read[0]) for other in others):
                return True
    return False


def _depends_on(operands: dict[str, tuple[str, list[str]]], name: str, wanted: str) -> bool:
    """Whether the instruction ``name`` is made of ``wanted``, over others between them."""
    seen, left = set(), [name]
    while left:
        one = left.pop()
        if one == wanted:
            return True
        if one not in seen:
            seen.add(one)
            left += operands.get(one, ("", []))[1]
    return False


def default_cache_dir() -> Path:
    """Where compiled programs are kept between runs: ``$XDG_CACHE_HOME/mjxppo/xla``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mjxppo" / "xla"


def backend_is_up() -> bool:
    """Whether a JAX backend has already started in this process (then flags come too late)."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(getattr(bridge, "_backends", None))


def platform(override: str | None = None) -> str:
    """What programs are built for: ``override``, else what JAX computes on in this process ("cpu", "gpu", "tpu").

    Raises UserError, which names the variable, where ``JAX_PLATFORMS`` asks for a device that is not here.
    """
    import jax  # importing this module comes before JAX

    try:
        return override or str(jax.default_backend())
    except Exception as error:
        raise UserError(platform_problem() or f"JAX cannot start: {error}") from error


def platform_problem() -> str | None:
    """Says, as a user's mistake, which variable asks for devices that JAX cannot start; None where it can.

    That is ``JAX_PLATFORMS``, or ``JAX_PLATFORM_NAME`` as JAX's older name for one of them.
    """
    if "jax" not in sys.modules:
        return None
    import jax  # as above

    # The first from the variable, or a script.
    asked = {
        "JAX_PLATFORMS": jax.config.values["jax_platforms"],
        "JAX_PLATFORM_NAME": os.environ.get("JAX_PLATFORM_NAME"),
    }
    if not any(asked.values()):
        return None
    try:
        jax.default_backend()
    except Exception as error:  # RuntimeError, or AssertionError without a text
        reason = (
            " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0].rstrip(".") or "no such device was found"
        )
        # With a name that is not there JAX starts all the same, and finds no device of it.
        by_name = asked["JAX_PLATFORM_NAME"] and (backend_is_up() or not asked["JAX_PLATFORMS"])
        name = "JAX_PLATFORM_NAME" if by_name else "JAX_PLATFORMS"
        return f"{name}: {asked[name]} cannot be used here ({reason}); unset it, or set it to cpu"
    return None


def refused_setting(error: Exception) -> str | None:
    """Says, as a user's mistake, which variable holds a value that JAX refused with ``error`` when it was imported."""
    refused = _REFUSED_BY_JAX.search(str(error)) if isinstance(error, ValueError) else None
    return f"{refused[2].upper()}: JAX takes no {refused[1]!r} there; unset it" if refused else None


def setup() -> None:
    """Sets ``XLA_FLAGS``; called once when ``mjxppo`` is imported.

    Warns, once, when the JAX backend is already up, because the flags can then no longer take effect.
    """
    merged = merge_xla_flags(os.environ.get("XLA_FLAGS", ""), max(2, usable_cores()), has_avx512())
    if merged == os.environ.get("XLA_FLAGS", ""):
        return
    if backend_is_up():
        warnings.warn(
            "the JAX backend started before mjxppo was imported, so its CPU settings cannot take effect and "
            "physics on CPU will be slow; import mjxppo before the first JAX computation",
            stacklevel=3,
        )
        return
    os.environ["XLA_FLAGS"] = merged


def enable_compilation_cache() -> Path | None:
    """Turns the persistent compilation cache on unless the user has configured it; returns its directory.

    Called by the programs (``mjxppo train`` and the others), not by a bare ``import mjxppo``. Returns None when
    the directory cannot be written; compilation then simply is not cached.
    """
    import jax  # importing this module comes before JAX

    configured = jax_setting("jax_compilation_cache_dir")
    if configured:
        return Path(configured)
    path = default_cache_dir()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES)
    return path


def cache_limit_bytes() -> int:
    """Size that the compilation cache is kept within, as JAX is set now; -1: no bound."""
    return int(jax_setting("jax_compilation_cache_max_size"))


def jax_setting(name: str) -> Any:
    """A setting of JAX, whose types do not name all of them in every release."""
    import jax  # as above

    return getattr(jax.config, name)
