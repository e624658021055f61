"""A plugin of pytest's: which of the exhaustive cases run. None, all, or one of several parts: ``--exhaustive``."""

from __future__ import annotations

import re
import zlib

import pytest


def parse(text: str) -> tuple[int, int]:
    """(part, parts) of ``none``, ``all`` or ``PART/PARTS``: none is (0, 0), all is (0, 1).

    Raises:
        ValueError: the text is nothing of these, or there is no such part.
    """
    if text in ("none", "all"):
        return 0, int(text == "all")
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    part, parts = map(int, found.groups()) if found else (0, 0)
    if part >= parts:
        raise ValueError(f"{text!r} is neither none, nor all, nor PART/PARTS with PART below PARTS, such as 3/16")
    return part, parts


def is_in(nodeid: str, part: int, parts: int) -> bool:
    """Whether a case is in a part. Its name alone decides, so that it stays there when other cases come and go."""
    return parts > 0 and zlib.crc32(nodeid.encode()) % parts == part


def pytest_addoption(parser):
    parser.addoption(
        "--exhaustive",
        default="none",
        metavar="none|all|PART/PARTS",
        help="exhaustive cases to run as well; of PARTS parts (made by their names) the one numbered PART, from 0",
    )


def pytest_configure(config):
    """Refuses a wrong --exhaustive before anything is collected."""
    try:
        parse(config.getoption("exhaustive"))
    except ValueError as error:
        raise pytest.UsageError(f"--exhaustive: {error}") from error


def pytest_report_header(config):
    return f"exhaustive cases: {config.getoption('exhaustive')}"


def pytest_collection_modifyitems(config, items):
    """Deselects the exhaustive cases that were not asked for."""
    part, parts = parse(config.getoption("exhaustive"))
    wanted, left_out = [], []
    for item in items:
        waits = item.get_closest_marker("exhaustive") and not is_in(item.nodeid, part, parts)
        (left_out if waits else wanted).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = wanted
