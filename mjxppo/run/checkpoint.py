"""Checkpoints with Orbax: the whole training state, its configuration, and checksums of every file.

A step's folder holds what Orbax wrote and ``checksums.json``, which is written last. A step without it, or with a
file that does not match it, is not whole and is never restored from.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mjxppo.config.check import make_config
from mjxppo.config.schema import CheckpointConfig, Config
from mjxppo.config.values import to_dict
from mjxppo.envs.build import prepare
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, check_room, reason, write_bytes
from mjxppo.run import distributed
from mjxppo.run.arrays import copied_shards, named_arrays
from mjxppo.run.directory import CHECKSUMS
from mjxppo.run.health import TrainingFailed, nonfinite_array

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
"""Name of a step's folder."""
_MOST_WAITING_S = 300
"""Seconds that processes wait for each other while a step is written."""
_OVERHEAD = 2**18
"""Bytes that a step takes on disk at most, beside its arrays."""
_JSON_OF_ORBAX = "metadata"
"""Name of the file in which Orbax writes JSON."""
_BEST_BY = "episode_return"
"""Orbax's metric by which the best checkpoints are kept; older checkpoints have it under this name."""
FIRST_AFTER_S = 45.0
"""Seconds after the start of training from which on the first checkpoint is saved; a device call comes on top."""
_ARRAYS = "arrays.npz"
"""File with the arrays of a step that was written without Orbax."""
FORMAT = 2
"""Version of what a checkpoint holds; raised when an older program could misread it."""


class DamagedCheckpoint(Exception):
    """A step's folder is incomplete or its contents changed since they were written; says which file."""


class CheckpointWriter:
    """Saves steps of one run in the background and keeps the newest and the best.

    Of several processes each writes the shards that it holds, into one directory that all of them see; they have to
    call each method at the same moment, and where one fails, it raises on all.
    """

    def __init__(self, directory: Path, config: Config, update: int = 0):
        """``update`` is the number of updates that the run has done before."""
        import orbax.checkpoint as ocp  # takes a second to import; reading metrics and --help do not need it

        _quiet_orbax()
        self._ocp = ocp
        self._checkpoint = config.checkpoint
        self._config = to_dict(config)
        self._directory = directory
        self.newest: int | None = distributed.from_first_process(next(iter(steps(directory)), None))
        """The newest whole step; at the start that on disk, which the caller has verified."""
        self._pending: int | None = None
        self._manager: Any = None
        self._tried, self._none_yet, self._opened = update, True, time.monotonic()

    def due(self, update: int) -> bool:
        """Whether to save after ``update`` updates: at the interval, and once soon after the start.

        A save that failed counts too, and is tried again after the interval.
        """
        if update - self._tried >= self._checkpoint.every_updates:
            return True
        return self._none_yet and distributed.on_any_process(time.monotonic() - self._opened > FIRST_AFTER_S)

    def _open(self) -> Any:
        options = self._ocp.CheckpointManagerOptions(
            create=not distributed.several(),  # Orbax refuses it where only some processes take part
            cleanup_tmp_directories=True,
            preservation_policy=_preservation(self._ocp, self._checkpoint),
            **self._sharing(),
        )
        return self._ocp.CheckpointManager(self._directory.absolute(), options=options)

    def _sharing(self) -> dict[str, Any]:
        """Orbax's options for several processes, which wait for each other through JAX's coordination service."""
        if not distributed.several():
            return {}
        options = self._ocp.options
        processes = set(range(jax.process_count()))
        return {
            "multiprocessing_options": options.MultiprocessingOptions(active_processes=processes),
            "async_options": options.AsyncOptions(timeout_secs=_MOST_WAITING_S),
        }

    def save(self, update: int, state: Any, expected_return: float | None) -> None:
        """Starts saving ``state`` as step ``update`` (the number of updates done); returns once it has been copied.

        The best checkpoints by ``expected_return`` are kept; None where it is not known. Raises WriteFailed
        where this step, or the one still under way, could not be written; TrainingFailed where the learner holds
        numbers that are not finite.
        """
        self._tried, self._none_yet = update, False
        self.finish()
        arrays = copied_shards(state) if distributed.several() else named_arrays(state)
        if wrong := nonfinite_array(arrays):
            kept = "there is no checkpoint yet" if self.newest is None else f"the last good checkpoint is {self.newest}"
            raise TrainingFailed(f"{wrong} is not finite after {update} updates, and is not saved; {kept}")
        with distributed.failing_together(WriteFailed):
            if distributed.is_first():
                self._directory.mkdir(parents=True, exist_ok=True)
                # Orbax's own report of a full disk is pages long, and comes from several threads.
                check_room(self._directory, sum(array.nbytes for array in arrays.values()) + _OVERHEAD)
        if self._manager is None:
            self._manager = self._open()
        args = self._ocp.args
        items = args.Composite(
            state=args.StandardSave(arrays),
            config=args.JsonSave({"format": FORMAT, "config": self._config}),
        )
        metrics = {_BEST_BY: -1e30 if expected_return is None else expected_return}
        with self._abandoning(update):
            self._manager.save(update, args=items, metrics=metrics)
        self._pending = update

    def poll(self) -> None:
        """Completes a save that has finished in the background; never waits. Raises WriteFailed as ``finish``."""
        if self._pending is None or distributed.on_any_process(self._manager.is_saving_in_progress()):
            return
        self.finish()

    def finish(self) -> None:
        """Waits until the save under way, if any, is complete; raises WriteFailed if it failed (older steps remain)."""
        if self._pending is None:
            return
        update, self._pending = self._pending, None
        with self._abandoning(update):
            self._manager.wait_until_finished()
            if distributed.is_first():
                write_checksums(self._directory / str(update))
        self.newest = update

    @contextlib.contextmanager
    def _abandoning(self, update: int) -> Iterator[None]:
        """If a save in the block fails, deletes its files; the next save starts with a new manager.

        Orbax raises exceptions of many kinds. It would count a step that is not whole among the steps to keep.
        """
        try:
            with distributed.failing_together(Exception):
                yield
        except Exception as error:
            with contextlib.suppress(Exception):
                self._manager.close()
            if distributed.is_first():
                for left in (*self._directory.glob(f"{update}.orbax-*"), self._directory / str(update)):
                    shutil.rmtree(left, ignore_errors=True)
            self._manager = None
            raise WriteFailed(f"checkpoint: step {update} could not be saved: {reason(error)}") from error

    def close(self) -> None:
        """Completes the save under way and stops the background threads; raises WriteFailed as ``finish``."""
        try:
            self.finish()
        finally:
            if self._manager is not None:
                self._manager.close()


def _preservation(ocp: Any, config: CheckpointConfig) -> Any:
    policies = ocp.checkpoint_managers
    keep = [policies.LatestN(config.keep_latest)]
    if config.keep_best:
        best = policies.BestN(n=config.keep_best, get_metric_fn=lambda metrics: metrics[_BEST_BY])
        keep.append(best)
    return policies.AnyPreservationPolicy(keep)


def _quiet_orbax() -> None:
    """Turns off absl's log, in which Orbax repeats what its exceptions say."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def write_checksums(step: Path) -> None:
    """Writes the step's ``checksums.json``, atomically; with it the step is whole."""
    sums = {str(path.relative_to(step)): _sha256(path) for path in _files(step)}
    write_bytes(step / CHECKSUMS, json.dumps({"format": FORMAT, "sha256": sums}, indent=1).encode())


def verify(step: Path) -> None:
    """Raises DamagedCheckpoint, which names the file, unless every file of a step exists and is unchanged."""
    manifest = step / CHECKSUMS
    try:
        sums = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{manifest} is missing: the save was interrupted, or is under way") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{manifest} is damaged") from error
    if not isinstance(sums, dict) or not sums:
        raise DamagedCheckpoint(f"{manifest} is damaged")
    if manifest.is_symlink():
        raise DamagedCheckpoint(f"{manifest} is a link")
    whole = step.resolve()
    for name, expected in sums.items():
        # Names that are absolute or go up, and links, would have files outside the step read.
        resolved = (step / name).resolve()
        if resolved != whole / name or not resolved.is_relative_to(whole):
            raise DamagedCheckpoint(f"{manifest} names {name!r}, which is a link or outside the step")
        try:
            actual = _sha256(step / name)
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"{step / name} is missing") from error
        except OSError as error:
            raise DamagedCheckpoint(f"{step / name} cannot be read: {error.strerror}") from error
        if actual != expected:
            raise DamagedCheckpoint(f"{step / name} is damaged: its contents changed since it was saved")


def _files(step: Path) -> Iterator[Path]:
    for path in sorted(step.rglob("*")):
        if path.is_file() and path != step / CHECKSUMS:
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def steps(directory: Path) -> list[int]:
    """The steps in a checkpoint directory, newest first, whole or not."""
    if not directory.is_dir():
        return []
    return sorted(
        (int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name) and path.is_dir()), reverse=True
    )


def only_the_first_save_was_interrupted(directory: Path) -> bool:
    """Whether the directory holds one step, and its save did not finish."""
    found = steps(directory)
    return len(found) == 1 and not (directory / str(found[0]) / CHECKSUMS).exists()


def newest_whole_step(directory: Path, on_damage: Any = None) -> Path | None:
    """The newest step that is whole; ``on_damage(message)`` is called for each newer one that is not."""
    for number in steps(directory):
        try:
            verify(directory / str(number))
        except DamagedCheckpoint as error:
            if on_damage is not None:
                on_damage(str(error))
            continue
        return directory / str(number)
    return None


def write_arrays(step: Path, arrays: dict[str, np.ndarray], config: Config) -> None:
    """Writes arrays and a configuration into a step's folder without Orbax, for ``read``; raises UserError."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_bytes(step / _ARRAYS, content.getvalue())
    description = {"format": FORMAT, "config": to_dict(config)}
    write_bytes(step / "config" / _JSON_OF_ORBAX, json.dumps(description).encode())


def read(step: Path) -> tuple[dict[str, np.ndarray], Config]:
    """The named arrays and the configuration in one (verified) step's folder.

    Raises UserError where the step was written by an incompatible version, cannot be read, or its learner holds numbers
    that are not finite.
    """
    import orbax.checkpoint as ocp  # takes a second to import

    config = read_config(step)
    prepare(to_dict(config))  # Orbax starts JAX's backend
    _quiet_orbax()
    restore_args = ocp.args.PyTreeRestore
    # Of several processes each reads on its own.
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=this, active_processes={this})
    try:
        if (step / _ARRAYS).is_file():
            with np.load(step / _ARRAYS, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in saved.files}
        else:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=alone) as reader:
                shapes = reader.metadata((step / "state").absolute()).item_metadata.tree
                as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
                arrays = reader.restore((step / "state").absolute(), args=restore_args(restore_args=as_numpy))
    except Exception as error:  # of many kinds, where the contents are not what Orbax wrote
        raise UserError(f"checkpoint: cannot read {step}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(arrays, dict) or not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UserError(f"checkpoint: {step} does not hold named arrays")
    if wrong := nonfinite_array(arrays):
        raise UserError(f"checkpoint: {step}: {wrong} holds numbers that are not finite; take the folder away")
    return arrays, config


def read_config(step: Path) -> Config:
    """The configuration in one (verified) step's folder; raises UserError as ``read``."""
    try:
        content = json.loads((step / "config" / _JSON_OF_ORBAX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"checkpoint: cannot read {step}: {' '.join(str(error).split())[:200]}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise UserError(
            f"checkpoint: {step} was written by another version of mjxppo: it has format {version}, and this one reads "
            f"{FORMAT}; use that version, or train again"
        )
    if not isinstance(content.get("config"), dict):
        raise UserError(f"checkpoint: {step} does not hold a configuration")
    return make_config(content["config"], f"{step}/config")
