"""A reader that goes away, or an output that cannot be written, is no reason for a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["config", "--env", "hopper"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "mjxppo.cli", *arguments], stdout=write_end, stderr=subprocess.PIPE, text=True
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")
