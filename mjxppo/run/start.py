"""The start of a run: its device program, and the training state restored from a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

from mjxppo import envs
from mjxppo.config.schema import Config
from mjxppo.console import say
from mjxppo.envs.build import environment
from mjxppo.errors import UserError
from mjxppo.ppo.placement import Target, this_machine
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import TrainState
from mjxppo.run import checkpoint, distributed
from mjxppo.run.arrays import from_named_arrays


def build(
    config: Config, env: envs.Environment | envs.Task | None = None, target: Target | None = None
) -> TrainingProgram:
    """The device program of a checked configuration, not compiled yet.

    ``env`` replaces the task ``config.env``. ``target`` is what the program is for; None: this machine.

    Raises UserError where the task or an option does not exist, or there are fewer devices.
    """
    target = target or this_machine()
    if config.num_devices > len(target.devices):
        raise UserError(f"num_devices: {config.num_devices} asked for, but there are {len(target.devices)}")
    return TrainingProgram(environment(config, env, target.platform), config, target)


def restore(program: TrainingProgram, directory: Path) -> TrainState | None:
    """The state in the newest whole checkpoint; None where none has been written yet."""
    damage: list[str] = []
    found = checkpoint.newest_whole_step(directory, damage.append) if distributed.is_first() else None
    # All processes have to read the same step, but may see different ones at this moment.
    name = distributed.from_first_process(found.name if found else None)
    step = directory / name if name else None
    if step is None:
        if damage:
            raise UserError(f"checkpoint: no step in {directory} is whole; the newest: {damage[0]}")
        say("no checkpoint yet: starting from the beginning")
        return None
    for message in damage:
        say(f"skipping a damaged checkpoint: {message}; going on from step {step.name}")
    saved, _ = checkpoint.read(step)
    restored = from_named_arrays(program.shapes(), saved)
    if not program.env.restorable:
        say(f"the worlds of {program.env.name} cannot be restored: new episodes begin")
        restored = program.restore_worlds(restored)
    restored = program.place(restored)
    if distributed.is_first():
        _set_aside_newer(directory, int(step.name))
    return restored


def _set_aside_newer(directory: Path, step: int) -> None:
    """Moves newer (damaged) steps to ``damaged/``, because their numbers will be written again."""
    for number in checkpoint.steps(directory):
        if number > step:
            aside = directory.parent / "damaged" / f"{number}-{time.time_ns()}"
            aside.parent.mkdir(exist_ok=True)
            (directory / str(number)).rename(aside)
