"""Output for a person (standard error) and for programs (JSON on standard output)."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_silent = False


def be_silent() -> None:
    """Switches ``say``, ``waiting`` and ``ProgressLine`` off: of several processes only the first prints."""
    global _silent
    _silent = True


def say(message: str) -> None:
    """Prints a message for a person, on standard error."""
    if not _silent:
        print(message, file=sys.stderr, flush=True)


def print_json(result: object) -> None:
    """Prints a result for programs, on standard output."""
    print(json.dumps(result, indent=1), flush=True)


def _for_a_terminal() -> bool:
    return sys.stderr.isatty() and not _silent


def human(count: float) -> str:
    """A count with a metric suffix, such as 12.3M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f}{suffix}"
    return f"{count:.0f}"


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


@contextlib.contextmanager
def waiting(message: str) -> Iterator[None]:
    """Shows ``message`` on a terminal while the block runs; prints nothing elsewhere."""
    console = Console(stderr=True)
    if not _for_a_terminal():
        yield
        return
    with console.status(message):
        console.show_cursor(True)  # Ctrl-C may end the process here, before the cursor is shown again
        yield


class ProgressLine:
    """A live line with environment steps, steps per second, return and time left; only on a terminal."""

    def __init__(self, label: str, total_env_steps: int, done: int):
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[steps]} steps"),
            TextColumn("{task.fields[speed]} steps/s"),
            TextColumn("return [bold]{task.fields[expected_return]}[/]{task.fields[extent]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not _for_a_terminal(),
            transient=True,
        )
        self._total = total_env_steps
        self._task = self._progress.add_task(
            label,
            total=total_env_steps,
            completed=done,
            steps=self._steps(done),
            speed="-",
            expected_return="-",
            extent="",
        )

    def _steps(self, done: int) -> str:
        return f"{human(done)}/{human(self._total)}"

    def __enter__(self) -> ProgressLine:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(
        self, env_steps: int, env_steps_per_s: float, expected_return: float | None, extent: float | None = None
    ) -> None:
        """Shows where training stands; ``extent`` is the share of the randomisation's ranges, where that changes."""
        fields: dict[str, Any] = {"steps": self._steps(env_steps), "speed": human(env_steps_per_s)}
        if expected_return is not None:
            fields["expected_return"] = f"{expected_return:.0f}"
        if extent is not None:
            fields["extent"] = f" at {extent:.0%} of the ranges"
        self._progress.update(self._task, completed=env_steps, **fields)
