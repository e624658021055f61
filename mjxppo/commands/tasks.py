"""The user's own tasks on the command line: ``mjxppo --tasks FILE_OR_MODULE COMMAND``."""

from __future__ import annotations

import os

from mjxppo.envs.registry import MODULES, registered


def add_tasks(place: str) -> None:
    """Makes the tasks known that a module, or a file ending in .py, registers; raises UserError where it cannot.

    The environment keeps its name, because evaluation starts processes that need the tasks as well.
    """
    if place.endswith(".py"):
        place = os.path.abspath(place)
    os.environ[MODULES] = os.pathsep.join(filter(None, (os.environ.get(MODULES), place)))
    registered()
