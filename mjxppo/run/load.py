"""Loading checkpoints and policies by a path: a run directory, its ``ckpt/``, or one step's folder.

In a run with several policies, a policy's directory names it. ``find_policy`` and ``find_policies`` also take a .npz.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.console import say
from mjxppo.errors import UserError
from mjxppo.files import read_json
from mjxppo.policy import npz, policy
from mjxppo.run import best, checkpoint
from mjxppo.run.directory import CONFIG, EVAL, run_of_member
from mjxppo.run.model_files import as_trained

_ATTEMPTS = 20
_PAUSE_S = 0.05


class Loaded(NamedTuple):
    """A checkpoint, read and verified."""

    step: Path
    """The step's folder."""
    run_dir: Path
    """Its run's directory; in a run with several policies, this policy's directory."""
    arrays: dict[str, np.ndarray]
    config: Config
    """The configuration; a model file in it is the one that the run was trained on (``model_files.as_trained``)."""

    @property
    def source(self) -> Path:
        """The step's folder."""
        return self.step

    @property
    def policy(self) -> policy.Policy:
        """The deterministic policy."""
        return policy.from_checkpoint(self.arrays, self.config)


class TrainedPolicy(NamedTuple):
    """A policy, and the task that it was trained on."""

    source: Path
    """The checkpoint step's folder, or the .npz."""
    run_dir: Path
    """As in ``Loaded``; of a .npz the directory that it is in."""
    policy: policy.Policy
    config: Config
    """For a .npz only the fields of the task are set."""


Found = TypeVar("Found", Loaded, TrainedPolicy)


def find_step(path: Path) -> Path:
    """The newest whole checkpoint step that ``path`` names; raises UserError where there is none."""
    if not path.exists():
        raise UserError(f"{path}: there is no such directory; give a run directory, its ckpt/, or one step's folder")
    if not path.is_dir():
        raise UserError(f"{path}: is a file; give a run directory, its ckpt/, or one step's folder")
    path = path.resolve()
    if path.name.isdigit() and not checkpoint.steps(path) and not (path / "ckpt").is_dir():
        try:
            checkpoint.verify(path)
        except checkpoint.DamagedCheckpoint as error:
            raise UserError(f"checkpoint: {error}") from error
        return path
    directory = path / "ckpt" if (path / "ckpt").is_dir() else path
    damage: list[str] = []
    step = checkpoint.newest_whole_step(directory, damage.append)
    begun = (directory.parent / CONFIG).is_file() or (directory / CONFIG).is_file()
    if step is None and begun and (not damage or checkpoint.only_the_first_save_was_interrupted(directory)):
        saving = " (its first save is under way, or was interrupted)" if damage else ""
        raise UserError(f"{path}: this run has no checkpoint yet{saving}; wait, or go on with --resume")
    if step is None and damage:
        raise UserError(f"checkpoint: no step in {directory} is whole; the newest: {damage[0]}")
    if step is None:
        raise UserError(f"{path}: holds no checkpoint; give a run directory, its ckpt/, or one step's folder")
    for message in damage:
        say(f"skipping a damaged checkpoint: {message}; using step {step.name}")
    return step


def load(path: Path, of_best_evaluation: bool = False) -> Loaded:
    """Reads the newest whole checkpoint that ``path`` names; raises UserError as ``load_all``.

    Of several policies it takes the one that ``path`` names, or else the one with the best evaluation.
    """
    return best_of(load_all(path, of_best_evaluation), path)


def find_policy(path: Path, of_best_evaluation: bool = False) -> TrainedPolicy:
    """The policy that ``path`` names, chosen as by ``load``, or that of an exported .npz.

    Raises UserError as ``load``, or where the .npz holds no policy for a known task.
    """
    return best_of(find_policies(path, of_best_evaluation), path)


def find_policies(path: Path, of_best_evaluation: bool = False) -> list[TrainedPolicy]:
    """Every policy that ``path`` names, as ``load_all`` finds them, or that of an exported .npz."""
    if npz.is_exported(path) and not of_best_evaluation:
        own, config = npz.read_with_task(path)
        run_dir = path.resolve().parent
        described = as_trained(config, run_dir)
        if described is config and (changed := npz.model_change(path)):
            say(f"{changed}: the policy acts in the model as it is now")
        return [TrainedPolicy(path, run_dir, own, described)]
    found = load_all(path, of_best_evaluation)
    return [TrainedPolicy(one.step, one.run_dir, one.policy, one.config) for one in found]


def best_of(found: Sequence[Found], path: Path) -> Found:
    """The policy with the best evaluation of those that ``path`` holds; says which where there are several."""
    if len(found) == 1:
        return found[0]
    chosen = max(found, key=lambda one: _evaluated(one.source, one.run_dir))
    say(f"{path} holds {len(found)} policies: taking {chosen.run_dir}")
    return chosen


def load_for(field: str, path: str, of_best_evaluation: bool = False) -> Loaded:
    """Loads the path in a field of the configuration; as ``load``, with a UserError that begins with the field."""
    try:
        return load(Path(path), of_best_evaluation)
    except UserError as error:
        raise UserError(f"{field}: {error}") from error


def load_all(path: Path, of_best_evaluation: bool = False) -> list[Loaded]:
    """Reads every policy in the newest whole checkpoint that ``path`` names, or of ``best/`` of each policy.

    The run may still train: if it deletes the checkpoint that is being read, a newer one is read. Raises UserError as
    ``find_step``, or ``best.find_best``.
    """
    if of_best_evaluation:
        return [loaded for directory in best.find_best(path) for loaded in load_all(directory)]
    run_dir = run_of_member(path)
    source = run_dir or path
    for _ in range(_ATTEMPTS):
        before = _contents(source)
        try:
            step = find_step(source)
            arrays, config = checkpoint.read(step)
        except UserError:
            time.sleep(_PAUSE_S)  # a deletion takes a moment
            if _contents(source) == before:
                raise
        else:
            owner = step.parent.parent
            loaded = _each_policy(step, arrays, as_trained(config, run_of_member(owner) or owner))
            return [one for one in loaded if run_dir and one.run_dir == path.resolve()] or loaded
    raise UserError(f"{path}: its checkpoints are deleted faster than they can be read; raise checkpoint.every_updates")


def _contents(path: Path) -> list[Path]:
    """All existing files of the steps that ``path`` names, without other, possibly many, files of the run."""
    directory = path / "ckpt" if (path / "ckpt").is_dir() else path
    steps = [directory / str(number) for number in checkpoint.steps(directory)]
    roots = steps or ([path] if path.name.isdigit() else [])
    return sorted(Path(place) / name for root in roots for place, _, names in os.walk(root) for name in names)


def _each_policy(step: Path, arrays: dict[str, np.ndarray], config: Config) -> list[Loaded]:
    run_dir = step.parent.parent
    if not trains_several(config):
        return [Loaded(step=step, run_dir=run_dir, arrays=arrays, config=config)]
    return [
        Loaded(step, run_dir / member.name, {name: values[i] for name, values in arrays.items()}, member.config)
        for i, member in enumerate(members_of(config))
    ]


def _evaluated(source: Path, directory: Path) -> float:
    """Return of a policy: of the evaluation for which it was kept, or else of the one that ended its run."""
    kept = best.row_of(source)
    if kept is not None:
        return best.return_of(kept)
    try:
        return float((read_json(directory / EVAL) or {})["mean"])
    except (ValueError, KeyError, TypeError):
        return -math.inf
