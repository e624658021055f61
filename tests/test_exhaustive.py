"""Exhaustive cases run when they are asked for: all, or a part that CI chooses by the commit's hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import exhaustive
import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = [f"tests/test_some.py::test_case[{number}]" for number in range(64)]
CASES = """import pytest

@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(16))
def test_case(number):
    pass

def test_always():
    pass
"""


@pytest.mark.parametrize("parts", [1, 2, 16])
def test_every_case_is_in_exactly_one_part(parts):
    for name in NAMES:
        assert [exhaustive.is_in(name, part, parts) for part in range(parts)].count(True) == 1


def test_a_cases_part_is_the_same_on_every_machine():
    assert [name for name in NAMES if exhaustive.is_in(name, 3, 16)] == [NAMES[number] for number in (9, 14, 58, 61)]


def test_no_part_is_much_larger_than_the_others():
    sizes = [sum(exhaustive.is_in(name, part, 16) for name in NAMES) for part in range(16)]
    assert max(sizes) <= 3 * len(NAMES) / 16


@pytest.mark.parametrize(("text", "expected"), [("none", (0, 0)), ("all", (0, 1)), ("3/16", (3, 16))])
def test_parts_are_asked_for_by_number(text, expected):
    assert exhaustive.parse(text) == expected


@pytest.mark.parametrize("text", ["", "some", "3", "16/16", "0/0", "-1/4", "1/4/2", "1.5/4"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match="neither none, nor all, nor PART/PARTS"):
        exhaustive.parse(text)


def collect(tmp_path: Path, *options: str) -> subprocess.CompletedProcess:
    """What pytest collects of ``CASES``."""
    (tmp_path / "test_some.py").write_text(CASES)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = exhaustive: x\n")
    command = [sys.executable, "-m", "pytest", "-p", "exhaustive", "-p", "no:cacheprovider", "--collect-only", "-q"]
    own = {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    environment = os.environ | own
    return subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)


def collected(tmp_path: Path, *options: str) -> set[str]:
    return {line for line in collect(tmp_path, *options).stdout.splitlines() if "::" in line}


def test_the_option_chooses_what_runs_beside_the_other_tests(tmp_path):
    always = {"test_some.py::test_always"}
    every = {f"test_some.py::test_case[{number}]" for number in range(16)}
    assert collected(tmp_path) == always
    assert collected(tmp_path, "--exhaustive", "all") == always | every
    part = {name for name in every if exhaustive.is_in(name, 1, 4)}
    assert 0 < len(part) < 16 and collected(tmp_path, "--exhaustive", "1/4") == always | part


def test_a_wrong_option_is_one_line(tmp_path):
    done = collect(tmp_path, "--exhaustive", "5/4")
    assert done.returncode == 4 and "--exhaustive: '5/4' is neither" in done.stderr


@pytest.fixture
def ci(tmp_path) -> Path:
    """A folder with .ci/run, and a ``make`` that prints what it is asked for."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    for name, text in {"make": 'echo "make $@"', "chromium": ":"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def asked_of_make(folder: Path, git: str) -> list[str]:
    """What .ci/run in ``folder`` asks of make, with ``git`` for the program of that name."""
    (folder / "bin" / "git").write_text(f"#!/bin/sh\n{git}\n")
    (folder / "bin" / "git").chmod(0o755)
    environment = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("make ") for line in done.stdout.splitlines() if line.startswith("make ")]


@pytest.mark.parametrize(
    ("commit", "part", "programs"), [("0123456789abcdef", 15, None), ("ab60", 0, None), ("ffed", 13, 2), ("31", 17, 0)]
)
def test_ci_chooses_the_parts_by_the_commits_hash(ci, commit, part, programs):
    check, *rest = asked_of_make(ci, f"echo {commit}")
    assert check == f"check EXHAUSTIVE={part}/32"
    of_gpu = [asked for asked in rest if not asked.startswith("start PYTHON=")]  # where there is a Python 3.13
    assert of_gpu == ([] if programs is None else [f"gpu-program ARGS=--part={programs}/3"])


def test_ci_takes_the_first_part_where_there_is_no_commit(ci):
    assert asked_of_make(ci, "exit 128")[0] == "check EXHAUSTIVE=0/32"
