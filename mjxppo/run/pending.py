"""Evaluations that are under way, as files: ``evaluations/UPDATE.npz`` in the directory of their policy."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mjxppo.console import say
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, write_bytes
from mjxppo.run.directory import EVALUATIONS

_NAME, _UNFINISHED = re.compile(r"([1-9][0-9]*)\.npz"), re.compile(r"\.[1-9][0-9]*-.*\.npz")
"""Names of the files, and of those that a kill has left half-written."""
_STEPS, _FILM = "env_steps", "film"
"""Names in the file besides those of the arrays, which all contain a slash."""


class Job(NamedTuple):
    """One policy at one step, to be evaluated."""

    policy: int
    """Its number among the run's policies."""
    update: int
    env_steps: int
    film: bool
    """Whether a clip is wanted."""
    arrays: dict[str, np.ndarray]
    """What had been learned, by the names that a checkpoint has."""


def write(directory: Path, job: Job) -> None:
    """Writes a job to its policy's directory; raises WriteFailed."""
    content = io.BytesIO()
    with_facts = {**job.arrays, _STEPS: np.int64(job.env_steps), _FILM: np.bool_(job.film)}
    np.savez(content, allow_pickle=False, **with_facts)  # type: ignore[arg-type]
    try:
        write_bytes(_path(directory, job.update), content.getvalue())
    except UserError as error:
        raise WriteFailed(str(error)) from error


def remove(directory: Path, job: Job) -> None:
    """Deletes a job's file, if there is one."""
    with contextlib.suppress(OSError):
        _path(directory, job.update).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder, when it is empty
        (directory / EVALUATIONS).rmdir()


def read(directories: Sequence[Path], update: int) -> list[Job]:
    """The jobs in the policies' directories up to ``update``, in their order; later ones are deleted."""
    found: list[Job] = []
    for policy, directory in enumerate(directories):
        for path in (directory / EVALUATIONS).glob("*"):
            match = _NAME.fullmatch(path.name)
            if _UNFINISHED.fullmatch(path.name) or (match is not None and int(match.group(1)) > update):
                path.unlink(missing_ok=True)
            elif match is None:
                continue  # not of this package
            else:
                found += _jobs_in(policy, path)
    return sorted(found, key=lambda job: (job.update, job.policy))


def _jobs_in(policy: int, path: Path) -> list[Job]:
    """The job in a file; none where it is damaged, which is said."""
    try:
        return [_job(policy, path)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        say(f"{path} is damaged, and its evaluation is left out: {error}")
        path.unlink(missing_ok=True)
        return []


def _job(policy: int, path: Path) -> Job:
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    steps, film = int(arrays.pop(_STEPS)), bool(arrays.pop(_FILM))
    return Job(policy, int(path.stem), steps, film, arrays)


def _path(directory: Path, update: int) -> Path:
    return directory / EVALUATIONS / f"{update}.npz"
