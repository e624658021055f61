"""The start of a run: its device program, and the training state restored from a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from mjxppo import envs
from mjxppo.config.schema import Config
from mjxppo.config.values import to_dict
from mjxppo.console import say
from mjxppo.envs.build import environment, prepare
from mjxppo.envs.robot_task import RobotTask
from mjxppo.errors import UserError
from mjxppo.ppo.es.program import EsProgram
from mjxppo.ppo.placement import Target, this_machine
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.schedules import fields_over_the_budget
from mjxppo.ppo.shac.program import ShacProgram
from mjxppo.ppo.state import TrainState
from mjxppo.run import checkpoint, distributed
from mjxppo.run.arrays import from_named_arrays
from mjxppo.run.jax_settings import check_jax_settings
from mjxppo.run.model_files import as_trained


def build(
    config: Config,
    env: envs.Environment | envs.Task | None = None,
    target: Target | None = None,
    run_dir: Path | None = None,
) -> TrainingProgram:
    """The device program of a checked configuration, not compiled yet.

    ``env`` replaces the task ``config.env``. ``target`` is what the program is for; None: this machine. ``run_dir`` is
    a run that has begun, on whose model file the program simulates.

    Raises UserError where the task or an option does not exist, there are fewer devices, or a setting of JAX's cannot
    be used.
    """
    check_jax_settings()
    if env is None:
        prepare(to_dict(config))
    target = target or this_machine()
    if config.num_devices > len(target.devices):
        raise UserError(f"num_devices: {config.num_devices} asked for, but there are {len(target.devices)}")
    described = config if run_dir is None else as_trained(config, run_dir)
    kind = {"shac": ShacProgram, "es": EsProgram}.get(config.algorithm, TrainingProgram)
    return kind(environment(described, env, target.platform), config, target)


def restore(program: TrainingProgram, directory: Path) -> TrainState | None:
    """The state in the newest whole checkpoint; None where none has been written yet."""
    damage: list[str] = []
    found = checkpoint.newest_whole_step(directory, damage.append) if distributed.is_first() else None
    # All processes have to read the same step, but may see different ones at this moment.
    name = distributed.from_first_process(found.name if found else None)
    step = directory / name if name else None
    if step is None:
        if damage and checkpoint.only_the_first_save_was_interrupted(directory):
            say(f"the first checkpoint, {damage[0]}; it is set aside")
            _set_aside_newer(directory, -1)
        elif damage:
            raise UserError(f"checkpoint: no step in {directory} is whole; the newest: {damage[0]}")
        say_what(program.env.task.unwrapped)
        say("no checkpoint yet: starting from the beginning")
        return None
    for message in damage:
        say(f"skipping a damaged checkpoint: {message}; going on from step {step.name}")
    saved, before = checkpoint.read(step)
    restored = from_named_arrays(program.shapes(), saved)
    say_what(program.env.task.unwrapped)
    _say_where(step, restored, before, program.config)
    if not program.env.restorable:
        say(f"the worlds of {program.env.name} cannot be restored: new episodes begin")
        restored = program.restore_worlds(restored)
    restored = program.place(restored)
    if distributed.is_first():
        _set_aside_newer(directory, int(step.name))
    return restored


def say_what(task: envs.Task) -> None:
    """Says which model is simulated, and by which physics."""
    if not isinstance(task, RobotTask):
        return
    reason = f": {task.physics.not_planar}" if task.physics.not_planar else ""
    say(f"{task.name}: {task.options.xml_file}, simulated by {task.physics.name}{reason}")
    if ignored := task.physics.settings_not_followed():
        say(
            f"{task.options.xml_file}: option {' '.join(ignored)}: not followed in training, whose solver always runs "
            "until it has converged"
        )


def _say_where(step: Path, state: TrainState, before: Config, config: Config) -> None:
    """Says where a resumed run goes on, and what another budget than ``before`` changes."""
    high, low = (np.asarray(word).reshape(-1).tolist() for word in (state.env_steps.high, state.env_steps.low))
    done, budget = min((h << 32) | w for h, w in zip(high, low, strict=True)), config.total_env_steps
    say(f"going on from checkpoint {step.name}, at {done:,} of {budget:,} environment steps")
    if done >= budget:
        say("its budget is used up; a larger total_env_steps trains on")
    elif budget != before.total_env_steps:
        fields = fields_over_the_budget(config)
        stretched = f"stretched over it: {', '.join(fields)}" if fields else "no schedule depends on it"
        say(f"total_env_steps: {budget:,}, a new budget, after {before.total_env_steps:,}; {stretched}")


def _set_aside_newer(directory: Path, step: int) -> None:
    """Moves newer (damaged) steps to ``damaged/``, because their numbers will be written again."""
    for number in checkpoint.steps(directory):
        if number > step:
            aside = directory.parent / "damaged" / f"{number}-{time.time_ns()}"
            aside.parent.mkdir(exist_ok=True)
            (directory / str(number)).rename(aside)
