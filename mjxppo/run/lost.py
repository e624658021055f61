"""How a process notices that another one, with which it trains together, is gone, and ends with one line.

A collective over TCP fails with an exception at once. One over NCCL waits for ever; then JAX's coordination service
misses the other's heartbeats, and JAX's runtime aborts this process after pages of its own. There is no way to be asked
first, so the abort is caught here, and what native code writes meanwhile is kept apart from what Python writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import threading
from typing import IO, NoReturn

_MESSAGE = "mjxppo: another process is gone, or has failed and says why; this one stops ({reason}); go on with --resume"
_RUNTIME_SAYS = "JAX distributed service detected fatal errors"
_EXCEPTIONS_SAY = ("Gloo", "NCCL", "nccl", "coordination service", "CoordinationService")
_NOISE = "[Gloo] Rank"
_REASON_LENGTH = 120
_ABORTED = 128 + signal.SIGABRT

_ending = threading.Lock()


def is_meant_by(error: BaseException) -> bool:
    """Whether an exception of JAX's says that another process is gone."""
    return isinstance(error, RuntimeError | ValueError) and any(text in str(error) for text in _EXCEPTIONS_SAY)


def end(reason: object) -> NoReturn:
    """Says that another process is gone and ends this one; without its usual exit, which would wait for the other."""
    _ending.acquire()  # never released: whoever comes second waits here for the end
    print(_MESSAGE.format(reason=" ".join(str(reason).split())[:_REASON_LENGTH]), file=sys.stderr, flush=True)
    os._exit(1)


class Watch:
    """While active, an abort over a lost process is one line, and native code's output waits in a file."""

    def __init__(self) -> None:
        self._native: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it is open as long as the watch)
        sys.stdout.flush()
        sys.stderr.flush()
        self._own = {number: os.dup(number) for number in (1, 2)}
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (os.fdopen(os.dup(self._own[number]), "w", buffering=1) for number in (1, 2))
        for number in (1, 2):
            os.dup2(self._native.fileno(), number)
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        self._libc = ctypes.CDLL(None)
        self._libc.signal(signal.SIGABRT, self._handler)

    def _written(self) -> str:
        """What native code has written so far, without its idle talk."""
        text = os.pread(self._native.fileno(), 2**20, 0).decode(errors="replace")
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_NOISE))

    def _aborted(self, _: int) -> None:
        if _RUNTIME_SAYS in self._written():
            end("its heartbeats are missing")
        self.tell()
        os._exit(_ABORTED)

    def tell(self) -> None:
        """Gives what native code has written to standard error."""
        with contextlib.suppress(OSError):
            os.write(self._own[2], self._written().encode())

    def close(self) -> None:
        """Puts everything back as it was."""
        self._libc.signal(signal.SIGABRT, None)
        self.tell()
        sys.stdout.flush()
        sys.stderr.flush()
        for number, own in self._own.items():
            os.dup2(own, number)
        sys.stdout, sys.stderr = self._streams
        self._native.close()
