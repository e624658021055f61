"""Keeps known complaints, which no user can act on, from the user."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator

import mujoco


@contextlib.contextmanager
def without_model_warnings() -> Iterator[None]:
    """Drops MuJoCo's complaint about an attribute of Gymnasium's models while they are compiled.

    MuJoCo would otherwise print it and start a MUJOCO_LOG.TXT in the working directory. All else is passed on.
    """
    previous = mujoco.get_mju_user_warning()

    def forward(message: str) -> None:
        if "settotalmass" in message:
            return
        if previous is not None:
            previous(message)
        else:
            sys.stderr.write(f"MuJoCo: {message.strip()}\n")

    mujoco.set_mju_user_warning(forward)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def import_mjx() -> None:
    """Imports MJX, which announces on standard output, where results go, that Warp is not installed."""
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mujoco.mjx")
