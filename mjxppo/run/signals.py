"""Handling of Ctrl-C and SIGTERM: the training loop saves and stops after its device call."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType


class StopRequest:
    """While active, the first SIGINT or SIGTERM is noted in ``signal_number``; a second SIGINT stops at once.

    Signals go to the main thread; in any other thread this does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    @property
    def exit_code(self) -> int:
        """The shell's convention for a program ended by the signal: 130 or 143; 0 if there was none."""
        return 128 + self.signal_number if self.signal_number else 0


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """While active, Ctrl-C ends the process at once; Python would wait until XLA has compiled the program."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A handler of the calling program, or one that ignores Ctrl-C, stays.
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
