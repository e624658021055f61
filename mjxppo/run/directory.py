"""A run's directory: its creation, its lock, and the links ``runs/latest`` and ``ckpt`` to it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.config.values import from_dict, read_yaml, to_yaml
from mjxppo.errors import UserError
from mjxppo.files import write_bytes
from mjxppo.run import distributed, model_files

CONFIG, CKPT, EVAL, VIDEO, SUMMARY = "config.yaml", "ckpt", "eval.json", "video.mp4", "summary.json"
CLONE = "clone.json"
"""What a cloned policy was learned from, and its losses; in the directories of such policies only."""
LATEST = Path("runs/latest")
"""Link to the newest run."""
BEST, FILMS, EVALUATIONS = "best", "films", "evaluations"
"""Folders of the best policy, of the clips, and of the evaluations that are under way."""
_LOCK = ".lock"
CHECKSUMS = "checksums.json"
"""The file that makes a checkpoint's folder whole; written last."""

_FREE_ON_RESUME = ("total_env_steps", "num_devices", "on_write_error", "log", "checkpoint", "eval")
"""Fields that may change on resume; a change of any other would make the rest of the run another training."""


def new_run_dir(config: Config) -> Path:
    """Makes ``runs/TASK-DATE-TIME-sSEED`` in the working directory, with a number behind it where that exists.

    Raises UserError where it cannot be made.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{re.sub('[:/]', '-', config.env)}-{stamp}-s{config.seed}"
    for number in itertools.count(1):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError as error:
            if not path.is_dir():  # runs/ is a file
                raise UserError(f"run_dir: cannot create {path}: {error.strerror}") from error
        except OSError as error:
            raise UserError(f"run_dir: cannot create {path}: {error.strerror}") from error
        else:
            return path
    raise AssertionError("counting does not end")


@contextlib.contextmanager
def open_run_dir(path: Path, config: Config, resume: bool) -> Iterator[Path]:
    """Makes (or, to ``resume``, opens) a run directory and locks it until the block ends.

    Writes its ``config.yaml``, and a copy of the model file of a user's robot (``model_files.keep``).

    Of several processes that train together the first one does so for all. Raises UserError where the directory cannot
    be written, another process uses it, or it is not empty and ``resume`` is false.
    """
    if not distributed.is_first():
        yield path
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / _LOCK).open("a")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"run_dir: cannot write to {path}: {reason}") from error
    with lock:
        if not _locked(lock):
            raise UserError(f"run_dir: {path} is in use by another process")
        held = [entry.name for entry in path.iterdir() if entry.name != _LOCK]
        if held and not resume:
            raise UserError(f"run_dir: {path} is not empty; continue it with --resume, or give another --run-dir")
        model_files.keep(config, path)
        write_bytes(path / CONFIG, (model_files.comment(path) + to_yaml(config)).encode())
        if trains_several(config):
            for member in members_of(config):
                (path / member.name).mkdir(exist_ok=True)
                write_bytes(path / member.name / CONFIG, to_yaml(member.config).encode())
        link_latest(path)
        yield path


def _locked(lock: IO[str]) -> bool:
    """Takes the lock, which the system releases when the process ends in any way; returns whether it was free."""
    for _ in range(10):  # in_use holds it for an instant
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.02)
    return False


def in_use(path: Path) -> bool:
    """Whether a process trains in a run directory."""
    try:
        with (path / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def run_of_member(path: Path) -> Path | None:
    """The run's directory, where ``path`` is the directory of one of the policies that it trains."""
    try:
        path = path.resolve()
    except (OSError, RuntimeError, ValueError):  # no path at all, such as a loop of links
        return None
    if (path / CKPT).exists() or not ((path / CONFIG).is_file() and (path.parent / CONFIG).is_file()):
        return None
    try:
        config = from_dict(read_yaml(path.parent / CONFIG))
        names = [member.name for member in members_of(config)]
    except UserError:
        return None
    return path.parent if path.name in names else None


def check_resumable(path: Path, config: Config) -> None:
    """Raises UserError where ``config`` changes a field of the run in ``path`` that is fixed on resume."""
    run = run_of_member(path)
    if run is not None:
        raise UserError(f"run_dir: {path} is one policy of a run; resume all of them with --run-dir {run}")
    saved = from_dict(read_yaml(path / CONFIG))
    for name in (field.name for field in dataclasses.fields(config) if field.name not in _FREE_ON_RESUME):
        before, now = getattr(saved, name), getattr(config, name)
        if before != now:
            raise UserError(
                f"{_first_difference(name, before, now)}: cannot change when a run is resumed; start a new one"
            )


def _first_difference(name: str, before: Any, now: Any) -> str:
    if dataclasses.is_dataclass(before):
        for field in dataclasses.fields(before):
            if getattr(before, field.name) != getattr(now, field.name):
                return f"{name}.{field.name}"
    return name


def link_latest(path: Path) -> None:
    """Links ``runs/latest`` and ``ckpt`` in the working directory to a run in ``runs/``, unless such files exist.

    A run in another place is not linked: it may be deleted with its directory, such as a temporary one.
    """
    if Path("runs").resolve() not in path.resolve().parents:
        return
    (path / CKPT).mkdir(exist_ok=True)  # the link would point at nothing until the first checkpoint
    for link, target in ((LATEST, path), (Path(CKPT), path / CKPT)):
        with contextlib.suppress(OSError):
            link.parent.mkdir(exist_ok=True)
            if link.is_symlink() or not link.exists():
                temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
                temporary.symlink_to(os.path.relpath(target.absolute(), link.parent.absolute()))
                temporary.replace(link)


def latest() -> Path:
    """The newest run in ``runs/``; raises UserError where there is none.

    Where ``runs/latest`` does not lead to a run, because that was deleted, it is the one that started last.
    """
    if (LATEST / CONFIG).is_file():
        return LATEST.resolve()
    there = sorted(Path("runs").glob(f"*/{CONFIG}"), key=lambda config: config.stat().st_mtime)
    if not there:
        raise UserError("run_dir: there is no run here (no runs/latest, and nothing in runs/); name its directory")
    link_latest(there[-1].parent)
    return there[-1].parent.resolve()


def found_run(path: Path) -> Path:
    """The directory that ``path`` names; for ``runs/latest`` that of ``latest``, which raises UserError."""
    return latest() if path == LATEST else path
