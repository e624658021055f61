"""``mjxppo view``: a live view of a policy in the browser."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import say


@dataclass(frozen=True)
class ViewArguments:
    """Shows a policy acting in Gymnasium's C MuJoCo, in the browser, where it can be pushed and its robot changed.
    Ctrl-C ends it. Needs viser: pip install 'mjxppo[view]'.
    """

    path: Annotated[Path, POSITIONAL] = Path("runs/latest")
    """A run directory, its ckpt/, one step's folder, or an exported .npz; default: the newest run. A run that still
    trains is followed: its newest checkpoint acts."""
    best: bool = False
    """Take the policy of the run's best evaluation while training, instead of the newest."""
    host: str = "127.0.0.1"
    """Address to listen at. The default can be reached from this machine only; 0.0.0.0 from every machine."""
    port: Annotated[int, Ge(1), Le(65535)] = 8080
    """Port to listen at."""
    seed: int = 1_000_000
    """Seed of the first episode; the others follow on."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ViewArguments, arguments, "mjxppo view")
    from mjxppo.run.directory import found_run
    from mjxppo.view.server import View, check_place

    check_place(parsed.host, parsed.port)  # before the checkpoint, whose reading takes seconds
    view = View(found_run(parsed.path), parsed.best, parsed.host, parsed.port, parsed.seed)
    say(f"http://{parsed.host}:{parsed.port} shows it; Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        view.run(threading.Event())
    return 0
