"""Several processes, on one or many hosts, that train one policy together: JAX's own distributed runtime.

All of them run the same program over one mesh of all their devices; worlds are split over it, parameters are copied.
Only the first process writes metrics, configuration, results and messages. Decisions of the host, such as to stop after
a signal, are exchanged here: if processes decided differently, some would wait without end in a collective.

``MJXPPO_COORDINATOR`` turns it on: ``host:port`` of the first process, with ``MJXPPO_NUM_PROCESSES`` and
``MJXPPO_PROCESS_ID``; or ``auto``, where JAX can tell from SLURM, Kubernetes, Open MPI or a TPU pod. Without it
there is one process, and the functions here do nothing. This module does not import JAX before it is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from mjxppo import console
from mjxppo.errors import UserError

T = TypeVar("T")

COORDINATOR, NUM_PROCESSES, PROCESS_ID = "MJXPPO_COORDINATOR", "MJXPPO_NUM_PROCESSES", "MJXPPO_PROCESS_ID"
AUTO = "auto"

LOST_AFTER_S = 30
"""Seconds without a sign of life after which a process counts as lost, and the others end."""
_START_S = 600
"""Seconds that the processes wait for each other at the start, and until all have compiled."""
_LEAVE_S = 300
"""Seconds that the processes wait for each other at the end of training."""
_MESSAGE_BYTES = 4096
_ANOTHER_IS_GONE = (
    "mjxppo: another process is gone, or has failed and says why; this one stops ({reason}); go on with --resume"
)
_COLLECTIVE_FAILED = ("Gloo", "NCCL", "nccl", "coordination service", "CoordinationService")
_REASON_LENGTH = 120


class _Stdout(NamedTuple):
    """Standard output as it was before ``join``."""

    stream: Any
    copy: int
    """A copy of its file descriptor."""


class _Place(NamedTuple):
    """This process's number, and the number of processes."""

    process: int = 0
    of: int = 1


_place = _Place()
_joined = False
_stdout: _Stdout | None = None


def several() -> bool:
    """Whether this process trains together with others."""
    return _place.of > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and messages; true where there is only one."""
    return _place.process == 0


def join() -> None:
    """Joins the processes that the environment variables name, if any; call it before JAX's backend starts.

    Raises UserError where the variables are incomplete, or the other processes do not start in time.
    """
    arguments = _initialize_arguments(os.environ)
    if arguments is None:
        return
    import jax  # not needed by a single process

    global _place, _joined, _stdout
    _stdout = _without_native_output()
    # Its preemption service takes SIGTERM for itself; here the processes agree on the update at which they stop.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=_START_S,
            heartbeat_timeout_seconds=LOST_AFTER_S,
            shutdown_timeout_seconds=_LEAVE_S,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{COORDINATOR}: the processes did not find each other: {_one_line(error)}") from error
    _place, _joined = _Place(jax.process_index(), jax.process_count()), True
    if not is_first():
        console.be_silent()
    counts = {sum(device.process_index == i for device in jax.devices()) for i in range(_place.of)}
    if len(counts) > 1:
        raise UserError(f"{COORDINATOR}: the processes have different numbers of devices: {sorted(counts)}")


def _initialize_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of ``jax.distributed.initialize``; None where there is only this process."""
    coordinator = environment.get(COORDINATOR, "")
    if not coordinator:
        return None
    if coordinator == AUTO:
        return {}
    numbers = {}
    for name in (NUM_PROCESSES, PROCESS_ID):
        text = environment.get(name, "")
        if not text.isdecimal():
            raise UserError(f"{name}: must be a number, since {COORDINATOR} is {coordinator}; it is {text!r}")
        numbers[name] = int(text)
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UserError(f"{COORDINATOR}: must be host:port of the first process, or {AUTO}, not {coordinator!r}")
    if numbers[PROCESS_ID] >= numbers[NUM_PROCESSES]:
        raise UserError(f"{PROCESS_ID}: {numbers[PROCESS_ID]} is not below {NUM_PROCESSES} = {numbers[NUM_PROCESSES]}")
    if numbers[NUM_PROCESSES] == 1:
        return None
    return {
        "coordinator_address": coordinator,
        "num_processes": numbers[NUM_PROCESSES],
        "process_id": numbers[PROCESS_ID],
        "cluster_detection_method": "deactivate",
    }


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """``join``s, and at the end ``leave``s. A process that fails in between ends at once, which ends the others."""
    try:
        join()
        yield
    except BaseException as error:
        if _joined:
            _end(error)
        _restore_native_output()
        raise
    leave()


def leave() -> None:
    """Leaves the group of processes after training: the first goes on alone, the others may end."""
    global _place, _joined
    if several():
        import jax  # as in join

        jax.distributed.shutdown()
        _place = _Place(_place.process)
    _joined = False
    _restore_native_output()


def _restore_native_output() -> None:
    """Undoes ``_without_native_output``; does nothing where it is undone."""
    global _stdout
    if _stdout is not None:
        sys.stdout.flush()
        os.dup2(_stdout.copy, 1)
        os.close(_stdout.copy)
        sys.stdout, _stdout = _stdout.stream, None


def _without_native_output() -> _Stdout:
    """Keeps standard output for results: drops what native code prints there, such as Gloo for each peer.

    Python writes to a copy of the file descriptor; returns what ``_restore_native_output`` puts back.
    """
    sys.stdout.flush()
    before = _Stdout(sys.stdout, os.dup(1))
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return before


def _end(error: BaseException) -> None:
    """Prints ``error`` and ends this process with its exit code, without waiting for the other processes."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
    elif isinstance(error, KeyboardInterrupt):
        code = 130
    elif isinstance(error, UserError):
        code = 2
        print(f"mjxppo: {_one_line(error)}", file=sys.stderr)
    elif _is_failed_collective(error):
        code = 1
        print(_ANOTHER_IS_GONE.format(reason=_one_line(error)[:_REASON_LENGTH]), file=sys.stderr)
    else:
        code = 1
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_failed_collective(error: BaseException) -> bool:
    """Whether JAX raised ``error`` because a collective waited for a process that has ended."""
    return isinstance(error, RuntimeError | ValueError) and any(text in str(error) for text in _COLLECTIVE_FAILED)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def max_over_processes(*values: int) -> tuple[int, ...]:
    """The largest of each value over all processes, which all have to call this together."""
    if not several():
        return values
    import numpy as np  # not needed by a single process
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.array(values, np.int32))
    return tuple(int(value) for value in gathered.max(0))


def on_any_process(condition: bool) -> bool:
    """Whether ``condition`` holds on any process; all have to call this together."""
    return bool(max_over_processes(int(condition))[0])


def from_first_process(value: T) -> T:
    """The value (JSON) that the first process passes; all have to call this together."""
    if not several():
        return value
    import numpy as np  # not needed by a single process
    from jax.experimental import multihost_utils

    text = json.dumps(value).encode()
    assert len(text) < _MESSAGE_BYTES
    message = np.frombuffer(text.ljust(_MESSAGE_BYTES), np.uint8)
    sent: T = json.loads(multihost_utils.broadcast_one_to_all(message).tobytes())
    return sent


def wait_for_all(what: str) -> None:
    """Waits until every process has called this; they may be minutes apart, unlike in a collective."""
    if several():
        from orbax.checkpoint import multihost  # not needed by a single process

        multihost.get_barrier_sync_fn()(key=what, timeout_ms=1000 * _START_S)


def check_same(what: str, value: str) -> None:
    """Raises UserError on every process unless all processes were given the same ``value``."""
    digest = hashlib.sha256(value.encode()).hexdigest()
    if on_any_process(digest != from_first_process(digest)):
        raise UserError(f"{what}: the processes were given different ones; for runs of their own unset {COORDINATOR}")


@contextlib.contextmanager
def failing_together(kind: type[Exception]) -> Iterator[None]:
    """Raises ``kind`` on all processes if the block raises it on any."""
    failure = None
    try:
        yield
    except kind as error:
        failure = error
    if on_any_process(failure is not None):
        raise failure or kind("another process failed in this; see there")
