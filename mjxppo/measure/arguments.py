"""Checks of the arguments that several benchmarks take."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mjxppo.errors import UserError, hint


def check_known(field: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raises UserError, which names the nearest known value, unless all given values of ``field`` are known."""
    for value in given:
        if value not in known:
            raise UserError(f"{field}: {value!r} is unknown; {hint(value, known)}")
