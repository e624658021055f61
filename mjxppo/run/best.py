"""The policy of a run's best evaluation while training, in ``best/`` of the policy's directory.

It is one step's folder, as a checkpoint's, with what was learned but without the worlds, and with the evaluation's row
of metrics.jsonl.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import from_dict, read_yaml
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, read_json, reason, write_bytes
from mjxppo.run import checkpoint
from mjxppo.run.directory import BEST, CONFIG
from mjxppo.run.metrics import RETURN, Row

_ROW = "evaluation.json"
_OF_STEPS = re.compile(r"[0-9]+|\.[0-9]+\.(new|old)")
"""Names of the folders that are written there."""


def return_of(row: Row | None) -> float:
    """The mean return of an evaluation; -inf where there is none."""
    value = (row or {}).get(RETURN)
    return float(value) if isinstance(value, int | float) else -np.inf


def row_of(step: Path) -> Row | None:
    """The evaluation of the policy in a folder of ``best/``; None where it is another folder."""
    return read_json(step / _ROW)


def read_best(directory: Path) -> tuple[Path, Row] | None:
    """Folder and evaluation of the best policy in a policy's directory; None where there is none."""
    steps = [directory / BEST / str(number) for number in checkpoint.steps(directory / BEST)]
    rows = [(step, row) for step in steps if (row := row_of(step)) is not None]
    return max(rows, key=lambda found: return_of(found[1]), default=None)


def keep_best(directory: Path, arrays: dict[str, np.ndarray], config: Config, row: Row) -> None:
    """Makes these arrays the best policy of a policy's directory; ``row`` is their evaluation. Raises WriteFailed."""
    step = directory / BEST / str(row["update"])
    _write(step, arrays, config, row)
    remove_others(step)


def _write(step: Path, arrays: dict[str, np.ndarray], config: Config, row: Row) -> None:
    """Writes a step's folder, with ``row`` beside the arrays; it appears whole, or not at all.

    Without Orbax, which is not made for a second thread that saves at the same time. Raises WriteFailed.
    """
    new, old = step.with_name(f".{step.name}.new"), step.with_name(f".{step.name}.old")
    try:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        checkpoint.write_arrays(new, arrays, config)
        write_bytes(new / _ROW, json.dumps(row).encode())
        checkpoint.write_checksums(new)
        if step.exists():
            step.rename(old)
        new.rename(step)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, UserError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise WriteFailed(f"cannot write {step}: {reason(error)}") from error


def remove_others(step: Path) -> None:
    """Deletes the other steps' folders in ``best/``, and what a kill has left half-written there."""
    for path in step.parent.iterdir():
        if path != step and _OF_STEPS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def find_best(path: Path) -> list[Path]:
    """The ``best/`` of each policy of the run that ``path`` names: its directory, its ckpt/, one step's folder, ...

    Raises UserError where there is no run, or it has made no evaluation while training.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such directory; give a run directory")
    if not path.is_dir():
        raise UserError(f"best: {path} is a file; give a run directory")
    resolved = path.resolve()
    for directory in (resolved, *resolved.parents[:2]):
        if (directory / CONFIG).is_file():
            config = from_dict(read_yaml(directory / CONFIG))
            found = [own / BEST for own in member_directories(directory, config) if read_best(own)]
            if found:
                return found
            break
    raise UserError(f"best: {path} has no evaluation made while training (eval.every_env_steps); leave --best out")
