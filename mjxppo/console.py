"""Output for a person (standard error) and for programs (JSON on standard output)."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

T = TypeVar("T")

PLAIN_INTERVAL_S = 30.0
"""Seconds between two lines about work in progress, where they cannot be replaced."""
_SHORT_S = 3.0
"""Work of a known size that takes less shows no progress."""
_LEAST_BAR, _MOST_BAR = 8, 40
_NOTEBOOK_WIDTH = 100
_silent = False


def be_silent() -> None:
    """Switches all messages and displays off: of several processes only the first prints."""
    global _silent
    _silent = True


def say(message: str) -> None:
    """Prints a message for a person, on standard error."""
    if not _silent:
        print(message, file=sys.stderr, flush=True)


def say_from_a_signal(message: str) -> None:
    """``say`` from a handler of a signal, which may have interrupted another print."""
    try:
        say(message)
    except RuntimeError:  # Python's streams refuse to be entered twice
        os.write(2, f"\n{message}\n".encode())


def print_json(result: object) -> None:
    """Prints a result for programs, on standard output."""
    print(json.dumps(result, indent=1), flush=True)


def program() -> str:
    """How to start this program here: ``mjxppo`` where the shell finds that of this Python, else through Python."""
    found = shutil.which("mjxppo")
    if found is not None and Path(found).resolve().parent == Path(sys.executable).absolute().parent.resolve():
        return "mjxppo"
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{shlex.quote(str(python))} -m mjxppo"


def _for_a_terminal() -> bool:
    return sys.stderr.isatty() and not _silent


def human(count: float) -> str:
    """A count with a metric suffix, such as 12.3M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f}{suffix}"
    return f"{count:.0f}"


def score(value: float, thousands: str = "") -> str:
    """A return for a person: a whole number from 100 on, else three digits, such as 9876, 41.5 or -3.47."""
    return f"{value:{thousands}.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds for a person, such as 54 s, 3 min 20 s, or 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def _notebook_cell() -> Any:
    """A new place in the output of a notebook's cell; None outside of a notebook."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(ipython, "kernel"):
        return None
    from IPython.display import display  # loaded already

    return display({"text/plain": ""}, raw=True, display_id=True)


@contextlib.contextmanager
def waiting(message: str, say_after_s: float | None = None) -> Iterator[None]:
    """Shows ``message`` on a terminal and in a notebook while the block runs.

    Elsewhere it is printed after ``say_after_s`` (None: 30 s), then every 30 s.
    """
    console = Console(stderr=True)
    if _for_a_terminal():
        with console.status(message):
            console.show_cursor(True)  # Ctrl-C may end the process here, before the cursor is shown again
            yield
        return
    cell = None if _silent else _notebook_cell()
    if cell is not None:
        cell.update({"text/plain": message}, raw=True)
        try:
            yield
        finally:
            cell.update({"text/plain": ""}, raw=True)
        return
    started, done = time.monotonic(), threading.Event()

    def repeat() -> None:
        interval = PLAIN_INTERVAL_S if say_after_s is None else say_after_s
        while not done.wait(interval):
            interval = PLAIN_INTERVAL_S
            say(f"{message}: {duration(time.monotonic() - started)} so far")

    threading.Thread(target=repeat, daemon=True).start()
    try:
        yield
    finally:
        done.set()


class Display:
    """One line about work in progress: replaced on a terminal and in a notebook, elsewhere printed every 30 s."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._draw: Callable[[int], str] = lambda width: ""
        self._live: Live | None = None
        self._cell: Any = None
        self._printed = time.monotonic()

    def show(self, draw: Callable[[int], str]) -> None:
        """Shows what ``draw`` makes for a number of columns; for 0 columns it makes a sentence without a bar."""
        self._draw = draw
        if _silent:
            return
        if _for_a_terminal():
            if self._live is None:
                self._live = Live(get_renderable=self._text, console=self._console, transient=True)
                self._live.start()
                self._console.show_cursor(True)  # a second Ctrl-C may end the process before it is shown again
            return
        self._cell = self._cell or _notebook_cell()
        if self._cell is not None:
            self._cell.update({"text/plain": draw(_NOTEBOOK_WIDTH)}, raw=True)
        elif time.monotonic() - self._printed >= PLAIN_INTERVAL_S:
            self._printed = time.monotonic()
            say(draw(0))

    def _text(self) -> Text:
        text = self._draw(self._console.width)
        return Text(text if self._console.encoding.startswith("utf") else text.replace("━", "#").replace("─", "-"))

    def close(self) -> None:
        """Takes the line away from a terminal."""
        if self._live is not None:
            self._live.stop()


def fit_line(start: str, share: float, ends: Sequence[str], width: int) -> str:
    """``start``, a bar that is full at ``share`` 1, and the first of ``ends`` with which they fit into ``width``."""
    for end in ends:
        room = width - len(start) - len(end) - 4
        if room >= _LEAST_BAR:
            bar = min(room, _MOST_BAR)
            full = round(bar * min(max(share, 0.0), 1.0))
            return f"{start}  {'━' * full}{'─' * (bar - full)}  {end}"
    return f"{start[: max(0, width - len(ends[-1]) - 2)]}  {ends[-1]}"


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a display of how many of ``total`` have been taken; none where that takes less than 3 s.

    ``what`` names them, such as "frames".
    """
    started = time.monotonic()
    display = Display()

    def draw(done: int, width: int) -> str:
        left = (time.monotonic() - started) / done * (total - done)
        end = f"{done} of {total} {what}, {duration(left)} left"
        return fit_line("", done / total, [end], width) if width else end

    try:
        for done, item in enumerate(items, 1):
            yield item
            if time.monotonic() - started > _SHORT_S:
                display.show(lambda width, done=done: draw(done, width))  # type: ignore[misc]
    finally:
        display.close()


class ProgressLine:
    """A display of training: environment steps, steps per second, return and time left."""

    def __init__(self, label: str, num_devices: int, total_env_steps: int, done: int):
        """``label`` names what is trained; ``done`` steps have been taken before."""
        self._label, self._total, self._first = label, total_env_steps, done
        self._where = f"{label} on {num_devices} device{'s' * (num_devices > 1)}"
        self._display = Display()
        self._started = time.monotonic()
        self._done, self._speed = done, 0.0
        self._return, self._extent, self._evaluated = "", "", ""

    def __enter__(self) -> ProgressLine:
        self._display.show(self._draw)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()

    def update(
        self,
        env_steps: int,
        env_steps_per_s: float,
        expected_return: float | None,
        evaluated: float | None = None,
        extent: float | None = None,
    ) -> None:
        """Shows where training stands.

        ``evaluated`` is the return of the newest evaluation, ``extent`` the share of the randomisation's ranges, where
        that changes.
        """
        self._done, self._speed = env_steps, env_steps_per_s
        if expected_return is not None:
            self._return = f"return {score(expected_return)}"
        if extent is not None:
            self._extent = f" at {extent:.0%} of the ranges"
        if evaluated is not None:
            self._evaluated = f"eval {score(evaluated)}"
        self._display.show(self._draw)

    def _draw(self, width: int) -> str:
        steps, speed = f"{human(self._done)}/{human(self._total)}", human(self._speed) if self._speed else "-"
        seconds, new = time.monotonic() - self._started, self._done - self._first
        left = f"{duration(seconds / new * (self._total - self._done))} left" if new else ""
        elapsed = duration(seconds)
        if not width:
            share = f"{self._done / self._total:.0%}"
            parts = [
                f"{steps} steps ({share})",
                f"{speed} steps/s",
                f"{self._return}{self._extent}",
                self._evaluated,
                left,
            ]
            return f"{self._label}: {', '.join(filter(None, parts))}"
        returned = f"{self._return}{self._extent}"
        evaluated = self._evaluated
        ends = [
            [f"{steps} steps", f"{speed} steps/s", returned, evaluated, elapsed, left],
            [f"{steps} steps", f"{speed} steps/s", returned, evaluated, left],
            [f"{steps} steps", f"{speed} steps/s", self._return, evaluated, left],
            [steps, f"{speed}/s", self._return, evaluated, left],
            [steps, self._return, evaluated, left],
            [steps],
        ]
        start = self._where if width >= len(self._where) + 90 else self._label
        return fit_line(start, self._done / self._total, ["  ".join(filter(None, parts)) for parts in ends], width)
