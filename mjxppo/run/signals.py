"""Handling of Ctrl-C and SIGTERM: the training loop saves and stops after its device call."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from mjxppo.console import say, say_from_a_signal


class StopRequest:
    """While active, the first SIGINT or SIGTERM is noted in ``signal_number`` and answered with what happens next.

    A second SIGINT stops at once. Signals go to the main thread; in any other thread this does nothing.
    """

    def __init__(self, last_good: Callable[[], str] = lambda: "what has not been saved is lost"):
        """``last_good`` says which checkpoint would be left."""
        self.signal_number: int | None = None
        self._last_good = last_good
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
        first, self.signal_number = self.signal_number is None, number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if first:
            name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            then = f"Ctrl-C{' again' * (number == signal.SIGINT)} stops at once: {self._last_good()}"
            say_from_a_signal(f"{name}: finishing the device call, then saving. {then}")

    @property
    def exit_code(self) -> int:
        """The shell's convention for a program ended by the signal: 130 or 143; 0 if there was none."""
        return 128 + self.signal_number if self.signal_number else 0


@contextlib.contextmanager
def stopping_at_once(message: str) -> Iterator[None]:
    """While active, Ctrl-C prints ``message`` and ends the process at once.

    Python runs its handlers in the main thread, which waits until XLA has compiled the program. So another thread is
    woken by the signal itself.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A handler of the calling program, or one that ignores Ctrl-C, stays.
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    ours, signals = socket.socketpair()
    ours.setblocking(False)

    def listen() -> None:
        while numbers := signals.recv(1):
            if numbers[0] == signal.SIGINT:
                say(message)
                ctypes.pythonapi.PyOS_setsig(ctypes.c_int(signal.SIGINT), None)  # the system's own, from any thread
                os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=listen, daemon=True).start()
    previous = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(previous)
        ours.close()  # ends the thread
