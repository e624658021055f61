"""Break each part of learning once, and see a test fail: ``make mutations``.

Each of tests/data/mutations.yaml changes a copy of the package and runs the tests that are to notice. Exit code 1 if
they do not. The checkout stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MUTATIONS = ROOT / "tests" / "data" / "mutations.yaml"


@dataclass(frozen=True)
class Mutation:
    """What is broken, and where."""

    what: str
    file: str
    """Path in mjxppo/ppo."""
    old: str
    """Text of that file, which stands there once."""
    new: str
    """What takes its place."""
    tests: str = "tests/ppo/test_learn.py"


def read() -> list[Mutation]:
    """All mutations."""
    return [Mutation(**fields) for fields in yaml.safe_load(MUTATIONS.read_text())]


def run(tests: str, mutation: Mutation | None = None) -> subprocess.CompletedProcess[str]:
    """The tests with a copy of the package, as it is or with a mutation."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "mjxppo"
        shutil.copytree(ROOT / "mjxppo", copy, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            file = copy / "ppo" / mutation.file
            file.write_text(file.read_text().replace(mutation.old, mutation.new))
        # -P: the copy comes before the checkout.
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
        environment = os.environ | {"PYTHONPATH": directory}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def problem_of(mutation: Mutation) -> str | None:
    """None if a test fails with the mutation, else what happened instead."""
    count = (ROOT / "mjxppo" / "ppo" / mutation.file).read_text().count(mutation.old)
    if count != 1:
        return f"{mutation.file} has the text {count} times"
    done = run(mutation.tests, mutation)
    if done.returncode == 1:
        return None
    return "no test fails" if done.returncode == 0 else f"pytest ends with {done.returncode}: {done.stdout[-500:]}"


def main() -> int:
    """Tries all of them; returns the exit code."""
    failed, mutations = 0, read()
    for tests in sorted({mutation.tests for mutation in mutations}):
        if run(tests).returncode:
            sys.exit(f"{tests} fails as it is")
    for mutation in mutations:
        problem = problem_of(mutation)
        failed += problem is not None
        print(f"{mutation.what} ({mutation.file}): {problem or 'noticed'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
