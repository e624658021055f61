"""Suppresses two messages of MuJoCo and MJX that do not concern the user."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator

import mujoco


@contextlib.contextmanager
def without_model_warnings() -> Iterator[None]:
    """Drops MuJoCo's warning about ``settotalmass``, an attribute of Gymnasium's models, while they are compiled.

    MuJoCo would otherwise print it and write MUJOCO_LOG.TXT in the working directory. Other warnings are passed on.
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
    """Imports MJX without its message that Warp is not installed: it goes to standard output, where results go."""
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mujoco.mjx")
