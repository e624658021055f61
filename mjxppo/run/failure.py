"""The dump of a run that stopped over non-finite numbers, from which the failure can be replayed.

Training is deterministic to the bit: the state before the failure is computed again from the newest whole checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.config.values import to_dict
from mjxppo.console import say, waiting
from mjxppo.envs import EnvState
from mjxppo.errors import UserError
from mjxppo.files import replacing, write_bytes
from mjxppo.ppo.es.program import EsProgram
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import TrainState
from mjxppo.run import checkpoint, distill, distributed, finetune, loop, start
from mjxppo.run.arrays import from_named_arrays, named_arrays
from mjxppo.run.directory import CKPT

Array = jax.Array

DIRECTORY, REPORT, STATE, WORLDS = "failure", "failure.json", "update.npz", "worlds.npz"
FORMAT = 2
_MOST_WORLDS = 16
"""Failing worlds that a dump stores right before their failing step, at most."""


class Worlds(NamedTuple):
    """K worlds right before the step that made them non-finite, and their actions in it."""

    state: EnvState
    """[K]."""
    action: Array
    """[K, action_size], squashed."""
    world: Array
    """Their global indices, [K]."""


def write_dump(config: Config, run_dir: Path, update: int, member: int = 0) -> Path:
    """Computes the state before a failed update again and writes it to the run's ``failure/``; returns that directory.

    Args:
        config: the run's.
        run_dir: the run's directory, with its checkpoints.
        update: the first update with non-finite numbers.
        member: index of the policy that has them; the dump is that of a run of this policy alone.

    Raises:
        UserError: it cannot be written, or the worlds cannot be computed again.
    """
    program = start.build(config, run_dir=run_dir)
    if not program.env.restorable:
        raise UserError(f"the worlds of {program.env.name} cannot be restored, and so not computed again")
    state, total = _last_checkpoint(program, run_dir / CKPT), program.budget(config.total_env_steps)
    while int(state.update.ravel()[member]) < update - 1:
        state, _ = program.one_update(state, total)
    arrays = named_arrays(state)
    if trains_several(config):
        arrays, config = {name: array[member] for name, array in arrays.items()}, members_of(config)[member].config
        program = start.build(config, run_dir=run_dir)
    report, worlds = find_failure(program, arrays)
    directory = run_dir / DIRECTORY
    _save(directory / STATE, arrays)
    _save(directory / WORLDS, named_arrays(worlds._asdict()) if worlds else {})
    # The report comes last: with it the dump is whole.
    content = {"format": FORMAT, **report, "config": to_dict(config)}
    write_bytes(directory / REPORT, (json.dumps(content, indent=1) + "\n").encode())
    return directory


def try_write_dump(config: Config, run_dir: Path, error: loop.TrainingFailed) -> None:
    """Writes the dump of a run that non-finite numbers stopped; prints why where that is not possible."""
    if error.nonfinite is None:
        return
    if distributed.several():
        say("no dump of the failure: several processes leave none (docs/scaling.md)")
        return
    try:
        with waiting("computing the failure again, for its dump"):
            dump = write_dump(config, run_dir, *error.nonfinite)
        say(f"what happened is in {dump}; replay it with: mjxppo replay {run_dir}")
    except UserError as problem:
        say(f"no dump of the failure: {problem}")


def replay(path: Path) -> dict[str, Any]:
    """Computes the failed update again from a dump, in ``path`` (a run's directory or its ``failure/``).

    Returns the report of ``find_failure``, whether that equals the dump's (``reproduced``), and for each stored world
    whether its single step fails too (``worlds_nonfinite``). Raises UserError where no dump can be read.
    """
    directory = path / DIRECTORY if (path / DIRECTORY).is_dir() else path
    recorded, config = _read_report(directory / REPORT)
    program = start.build(config, run_dir=directory.resolve().parent)
    arrays = _load(directory / STATE)
    report, worlds = find_failure(program, arrays)
    result = {**report, "reproduced": all(recorded.get(name) == value for name, value in report.items())}
    if worlds is not None:
        template = named_arrays(worlds._asdict())
        saved = Worlds(**from_named_arrays(worlds._asdict(), _load(directory / WORLDS)))
        result["reproduced"] &= all(
            np.array_equal(template[name], array, equal_nan=array.dtype.kind == "f")
            for name, array in named_arrays(saved._asdict()).items()
        )
        stepped = jax.jit(program.env.step)(saved.state, saved.action)
        result["worlds_nonfinite"] = np.asarray(stepped.nonfinite).tolist()
    return result


def find_failure(program: TrainingProgram, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], Worlds | None]:
    """Computes one update of one policy and finds the worlds that become non-finite in it.

    ``arrays`` is the training state before the update, as ``named_arrays`` returns it. Returns a report, with the
    update's counts, ``step`` (the first of the rollout in which worlds fail) and ``worlds`` (the indices of all that
    fail in it); and these worlds before that step, or None where none fails.
    """
    total = program.budget(program.config.total_env_steps)
    metrics = jax.device_get(program.one_update(_state(program, arrays), total)[1])
    report: dict[str, Any] = {
        name: int(metrics[name][0]) for name in ("update", "nonfinite_steps", "skipped_gradient_steps")
    } | {"seed": program.config.seed, "step": None, "worlds": []}
    if not report["nonfinite_steps"]:
        return report, None

    config, state = program.config.ppo, _state(program, arrays)
    _, broken_at = _worlds_after(program, state, program.update_budget(state, total))
    step = int(broken_at.min())
    failed = np.flatnonzero(broken_at == step)
    # With a budget of ``step`` steps every world stands as it was before the step that failed.
    before, _ = _worlds_after(program, state, jnp.int32(step * config.num_envs))
    index = jnp.asarray(failed[:_MOST_WORLDS], jnp.int32)
    worlds = jax.tree.map(lambda x: x[index], jax.device_get(before))
    action = program.actions(state, worlds, index, step)
    return report | {"step": step, "worlds": failed.tolist()}, Worlds(worlds, action, index)


def _worlds_after(program: TrainingProgram, state: TrainState, budget: Array) -> tuple[EnvState, np.ndarray]:
    """The worlds after the rollout of an update with this step budget, and the steps at which they broke, [num_envs].

    The number of those that did not is the rollout's length.
    """
    config = program.config.ppo
    if isinstance(program, EsProgram):
        worlds, collected = program.episodes_only(state, budget)
        return worlds, np.asarray(collected.broken_at)
    worlds, batch, _ = program.rollout_only(state, budget)
    valid = np.asarray(batch.valid).swapaxes(0, 1).reshape(config.rollout_length, config.num_envs)
    taken = np.arange(valid.size).reshape(valid.shape) < int(budget)
    if program.config.algorithm == "reinforce":  # after its episode a world waits
        ended = np.asarray(batch.terminated | batch.truncated).swapaxes(0, 1).reshape(valid.shape)
        taken &= ended.cumsum(0) - ended == 0
    broken = taken & ~valid
    return worlds, np.where(broken.any(0), broken.argmax(0), config.rollout_length)


def _last_checkpoint(program: TrainingProgram, directory: Path) -> TrainState:
    step = checkpoint.newest_whole_step(directory)
    if step is None:
        return distill.add_teacher(program, finetune.carry_over(program, program.init()))
    return _state(program, checkpoint.read(step)[0])


def _state(program: TrainingProgram, arrays: dict[str, np.ndarray]) -> TrainState:
    return program.place(from_named_arrays(program.shapes(), arrays))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged or hostile archive
        raise UserError(f"{path}: is missing or damaged; train again to get a new dump") from error


def _read_report(path: Path) -> tuple[dict[str, Any], Config]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give a run that stopped, or its failure/") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("config"), dict):
        raise UserError(f"{path}: is no report of format {FORMAT}")
    return content, make_config(content["config"], str(path))
