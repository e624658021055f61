"""The directories in which runs keep their metrics, one for each policy."""

from __future__ import annotations

from pathlib import Path

from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import from_dict, read_yaml
from mjxppo.errors import UserError
from mjxppo.run.directory import CLONE, CONFIG
from mjxppo.run.metrics import JSONL


def find_runs(path: Path) -> list[Path]:
    """The resolved directories with metrics, one for each policy, of the run that ``path`` names.

    ``path`` is the run's directory, its ckpt/, or one step's folder.

    Raises:
        UserError: there is no such directory, or no metrics in it.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such directory; give a run directory")
    resolved = path.resolve()
    for directory in (resolved, *resolved.parents[:2]):
        found = [directory] if (directory / JSONL).is_file() else _of_members(directory)
        if found:
            return found
    check_not_cloned(path)
    if (resolved / CONFIG).is_file():
        raise UserError(f"{path}: this run has logged nothing yet; wait for its first updates")
    raise UserError(f"{path}: holds no {JSONL}; give a run directory")


def check_not_cloned(path: Path) -> None:
    """Raises UserError where the directory is that of a cloned policy that has not been trained since."""
    if (path / CLONE).is_file() and not (path / JSONL).is_file():
        raise UserError(f"{path}: this policy was cloned, which makes no curves; mjxppo evaluate shows its return")


def with_metrics(directory: Path, config: Config) -> list[Path]:
    """The directories of a run's policies that have metrics already."""
    return [own for own in member_directories(directory, config) if (own / JSONL).is_file()]


def _of_members(directory: Path) -> list[Path]:
    if not (directory / CONFIG).is_file():
        return []
    return with_metrics(directory, from_dict(read_yaml(directory / CONFIG)))
