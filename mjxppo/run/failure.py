"""What happened when a run stopped over non-finite numbers, written down so that it can be replayed.

The device program keeps nothing for this. Runs are exact, so the moments before the failure are computed again, from
the newest whole checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.config.values import to_dict
from mjxppo.console import say, waiting
from mjxppo.envs import EnvState
from mjxppo.errors import UserError
from mjxppo.files import replacing, write_bytes
from mjxppo.ppo import counters
from mjxppo.ppo.collective import AXIS
from mjxppo.ppo.program import Trainer
from mjxppo.ppo.rollout import draw_action, see_obs
from mjxppo.ppo.state import TrainState
from mjxppo.run import checkpoint, distill, distributed, finetune, loop
from mjxppo.run.directory import CKPT

Array = jax.Array

DIRECTORY, REPORT, STATE, WORLDS = "failure", "failure.json", "update.npz", "worlds.npz"
FORMAT = 1
_MOST_WORLDS = 16
"""Failing worlds that a dump holds one by one; the state before the update holds all."""


class Worlds(NamedTuple):
    """Some worlds right before the step that made them non-finite, and what they were told to do."""

    state: EnvState
    """[K]."""
    action: Array
    """[K, action_size], squashed."""
    world: Array
    """Their global indices, [K]."""


def record(config: Config, run_dir: Path, update: int, member: int = 0) -> Path:
    """Computes a failed update's beginning again and writes it to the run's ``failure/``; returns that directory.

    Args:
        config: the run's.
        run_dir: the run's directory, with its checkpoints.
        update: the update in which numbers ceased to be finite.
        member: whose, where the run trains several policies; the dump is as of a run of that one alone.

    Raises:
        UserError: it cannot be written, or the worlds cannot be computed again.
    """
    trainer = _one_update_at_a_time(config)
    if not trainer.env.restorable:
        raise UserError(f"the worlds of {trainer.env.name} cannot be restored, and so not computed again")
    state, total = _last_checkpoint(trainer, run_dir / CKPT), trainer.budget(config.total_env_steps)
    while int(state.update.ravel()[0]) < update - 1:
        state, _ = trainer.train_chunk(state, total)
    arrays = checkpoint.flatten(state)
    if trains_several(config):
        arrays, config = {name: array[member] for name, array in arrays.items()}, members_of(config)[member].config
        trainer = _one_update_at_a_time(config)
    report, worlds = look(trainer, arrays)
    directory = run_dir / DIRECTORY
    _save(directory / STATE, arrays)
    _save(directory / WORLDS, checkpoint.flatten(worlds._asdict()) if worlds else {})
    # The report comes last: with it the dump is whole.
    content = {"format": FORMAT, **report, "config": to_dict(config)}
    write_bytes(directory / REPORT, (json.dumps(content, indent=1) + "\n").encode())
    return directory


def leave(config: Config, run_dir: Path, error: loop.TrainingFailed) -> None:
    """Records what stopped a run, if non-finite numbers did; without a dump the run has failed no less."""
    if error.nonfinite is None:
        return
    if distributed.several():
        say("no dump of the failure: several processes leave none (docs/scaling.md)")
        return
    try:
        with waiting("computing the failure again, for its dump"):
            dump = record(config, run_dir, *error.nonfinite)
        say(f"what happened is in {dump}; replay it with: mjxppo replay {run_dir}")
    except UserError as problem:
        say(f"no dump of the failure: {problem}")


def replay(path: Path) -> dict[str, Any]:
    """Computes a dump's update, and the failing worlds' step, again.

    Args:
        path: a run's directory, or its ``failure/``.

    Returns:
        What ``look`` reports, whether that is what the dump says (``reproduced``), and for each failing world whether
        its one step alone fails too (``worlds_nonfinite``).

    Raises:
        UserError: there is no dump, or it cannot be read.
    """
    directory = path / DIRECTORY if (path / DIRECTORY).is_dir() else path
    recorded, config = _read_report(directory / REPORT)
    trainer = _one_update_at_a_time(config)
    arrays = _load(directory / STATE)
    report, worlds = look(trainer, arrays)
    result = {**report, "reproduced": all(recorded.get(name) == value for name, value in report.items())}
    if worlds is not None:
        template = checkpoint.flatten(worlds._asdict())
        saved = Worlds(**checkpoint.unflatten(worlds._asdict(), _load(directory / WORLDS)))
        result["reproduced"] &= all(
            np.array_equal(template[name], array, equal_nan=array.dtype.kind == "f")
            for name, array in checkpoint.flatten(saved._asdict()).items()
        )
        stepped = jax.jit(trainer.env.step)(saved.state, saved.action)
        result["worlds_nonfinite"] = np.asarray(stepped.nonfinite).tolist()
    return result


def look(trainer: Trainer, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], Worlds | None]:
    """Does one update and says what became non-finite in it.

    Args:
        trainer: with ``log.every_updates`` 1.
        arrays: the training state before the update, as ``checkpoint.flatten`` has it.

    Returns:
        The update's counts, and ``step`` (the first that failed, of the rollout) and ``worlds`` (all that failed in
        it), where worlds failed; and those worlds before that step.
    """
    total = trainer.budget(trainer.config.total_env_steps)
    metrics = jax.device_get(trainer.train_chunk(_state(trainer, arrays), total)[1])
    report: dict[str, Any] = {
        name: int(metrics[name][0]) for name in ("update", "nonfinite_steps", "skipped_gradient_steps")
    } | {"seed": trainer.config.seed, "step": None, "worlds": []}
    if not report["nonfinite_steps"]:
        return report, None

    config, state, collect = trainer.config.ppo, _state(trainer, arrays), _collect(trainer)
    budget = counters.remaining(state.env_steps, total, trainer.env_steps_per_update)
    valid = np.asarray(collect(state, budget)[1]).swapaxes(0, 1).reshape(config.rollout_length, config.num_envs)
    taken = np.arange(valid.size).reshape(valid.shape) < int(budget)
    step = int((taken & ~valid).any(1).argmax())
    failed = np.flatnonzero(taken[step] & ~valid[step])
    # A budget of so many steps leaves every world as it was before that one.
    before, _ = collect(state, jnp.int32(step * config.num_envs))
    index = jnp.asarray(failed[:_MOST_WORLDS], jnp.int32)
    worlds = jax.tree.map(lambda x: x[index], jax.device_get(before))
    action = _action(trainer, state, worlds, step, index)
    return report | {"step": step, "worlds": failed.tolist()}, Worlds(worlds, action, index)


def _action(trainer: Trainer, state: TrainState, worlds: EnvState, step: int, index: Array) -> Array:
    policy, reference = trainer.policy(state.learner), trainer.reference(state.learner)
    seen, key = see_obs(policy, trainer.config.ppo, worlds.obs), jax.random.fold_in(_rollout_key(state), step)
    return jnp.tanh(draw_action(policy, seen, key, index, reference(worlds) if reference else None)[0])


def _rollout_key(state: TrainState) -> Array:
    return jax.random.split(jax.random.fold_in(state.key, state.update))[0]


def _collect(trainer: Trainer) -> Callable[[TrainState, Array], tuple[EnvState, Array]]:
    """The update's rollout alone: worlds afterwards, and ``Batch.valid`` of all blocks."""

    def collect(state: TrainState, budget: Array) -> tuple[EnvState, Array]:
        env_state, batch, _, _ = trainer.collect(state, _rollout_key(state), budget)
        return env_state, batch.valid

    if trainer.num_devices > 1:
        specs = jax.tree.map(lambda s: s.spec, trainer.sharding, is_leaf=lambda x: isinstance(x, NamedSharding))
        worlds = PartitionSpec(AXIS)
        collect = jax.shard_map(
            collect, mesh=trainer.mesh, in_specs=(specs, PartitionSpec()), out_specs=(worlds, worlds), check_vma=False
        )
    return jax.jit(collect)


def _one_update_at_a_time(config: Config) -> Trainer:
    # What is replayed may have been recorded where Weights & Biases was installed.
    return loop.build(replace(config, log=replace(config.log, every_updates=1, wandb=False)))


def _last_checkpoint(trainer: Trainer, directory: Path) -> TrainState:
    step = checkpoint.newest_whole_step(directory)
    if step is None:
        return distill.begin(trainer, finetune.begin(trainer, trainer.init()))
    return _state(trainer, checkpoint.read(step)[0])


def _state(trainer: Trainer, arrays: dict[str, np.ndarray]) -> TrainState:
    return trainer.place(checkpoint.unflatten(trainer.shapes(), arrays))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # whatever a damaged or hostile archive makes of NumPy and zipfile
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
