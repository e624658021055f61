"""Runs one command of the mjxppo program, from whichever Python the script was started with."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(command: str) -> None:
    """Runs ``mjxppo COMMAND`` with this script's arguments and exits with its status.

    After ``make setup`` the packages are in .venv, which need not be active: the script then starts itself again
    with that interpreter.
    """
    venv = ROOT / ".venv"
    python = venv / "bin" / "python"
    complete = all(importlib.util.find_spec(name) is not None for name in ("mjxppo", "jax", "mujoco", "pydantic"))
    if not complete and python.exists() and Path(sys.prefix).resolve() != venv.resolve():
        os.execv(python, [str(python), *sys.argv])
    if not complete:
        sys.stderr.write(f"mjxppo is not installed for {sys.executable}; run `make setup` in {ROOT} first\n")
        sys.exit(2)

    from mjxppo.cli import main

    sys.exit(main([command, *sys.argv[1:]]))
