"""``mjxppo train``: from a configuration to a policy, its return in C MuJoCo, and a video."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mjxppo.commands import helptext
from mjxppo.commands.options import REPEATED, Option, options_of, read
from mjxppo.config.layers import changes_of, settings_of_algorithm
from mjxppo.config.schema import Config, Return, Updates, sections
from mjxppo.config.values import build, defaults_for, from_dict, merge
from mjxppo.console import print_json, program, say
from mjxppo.envs.registry import TASKS

if TYPE_CHECKING:
    from mjxppo.run.session import Request, Result


@dataclass(frozen=True)
class RunOptions:
    """What ``mjxppo train`` takes besides the fields of a configuration."""

    config: str | None = None
    """YAML file or name of a shipped configuration; its fields replace the task's, and --FIELD options replace both."""
    set_from: Annotated[tuple[Path, ...], REPEATED] = ()
    """YAML file of further changes, on top of --config; may be given several times, the last one wins."""
    run_dir: Path | None = None
    """Directory of the run; default: runs/TASK-DATE-TIME-sSEED."""
    resume: bool = False
    """Go on with the run in --run-dir (default: the newest one) from its newest whole checkpoint."""
    stop_at_return: Return | None = None
    """End the run when an evaluation while training has this mean return."""
    patience: Updates | None = None
    """End the run after this number of evaluations without a better one."""


_OF_EVAL = ("stop_at_return", "patience")
"""Options of a run that stand for those of the same name in the section ``eval``."""


def train_options(default: Config | None = None) -> list[Option]:
    """The options of a training run: the fields of its configuration, with ``default``'s values, and its own."""
    return [*options_of(Config, default or Config(env="")), *options_of(RunOptions)]


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    show_help_if_asked(arguments, "mjxppo train", "Trains a policy.")
    return run(request_of(arguments, "mjxppo train"))


def show_help_if_asked(arguments: Sequence[str], prog: str, description: str) -> None:
    """Prints the options with the defaults of the task and algorithm named, and exits, if -h or --help is given."""
    if not {"-h", "--help"} & set(arguments):
        return
    env = next((b for a, b in itertools.pairwise(arguments) if a == "--env"), "hopper")
    algorithm = next((b for a, b in itertools.pairwise(arguments) if a == "--algorithm"), "ppo")
    shipped = merge(defaults_for(env.lower().replace("-", "_")), settings_of_algorithm(algorithm))
    default = from_dict(merge({"env": env}, shipped))
    helptext.show_if_asked(train_options(default), arguments, prog=prog, description=description, sections=sections())


def request_of(arguments: Sequence[str], prog: str, fixed: Mapping[str, Any] | None = None) -> Request:
    """The run that the arguments describe; ``fixed`` fields replace theirs."""
    from mjxppo.run.session import Request  # brings JAX in, which help does without

    values = read(train_options(), arguments, prog)
    own = build(RunOptions, {name: values.pop(name) for name in vars(RunOptions()) if name in values}, prog)
    files = [own.config] if own.config is not None else []
    aliases = {name: value for name in _OF_EVAL if (value := getattr(own, name)) is not None}
    values = merge(values, {"eval": aliases}) if aliases else values
    changes = changes_of([*files, *own.set_from], merge(values, fixed or {}))
    return Request(changes=changes, run_dir=own.run_dir, resume=own.resume)


def run(request: Request) -> int:
    """Does the run and prints its summary as JSON; returns the exit code."""
    from mjxppo.run import session  # brings JAX in
    from mjxppo.run.loop import TrainingFailed

    try:
        result = session.run(request, finished=_draw_curves)
    except TrainingFailed as error:
        say(f"mjxppo: training stopped: {error}")
        return 1
    if result.summary is not None:
        if not result.outcome.exit_code:
            say(f"everything is in {result.run_dir}; {_next(result)}")
        print_json(result.summary)
    return result.outcome.exit_code


def _next(result: Result) -> str:
    """What to do with a run that has ended, with a command that works here."""
    can_be_filmed = "video" in (result.summary or {}) or result.config.env in TASKS
    what, name = ("film a whole episode", "render") if can_be_filmed else ("a page about it", "report")
    return f"{what}: {program()} {name} {shlex.quote(str(result.run_dir))}"


def _draw_curves(config: Config, run_dir: Path) -> dict[str, Any]:
    """Draws the learning curves of a run with several policies; a run too short to finish an episode has none."""
    from mjxppo.analysis.plot import plot  # only runs with several policies need it
    from mjxppo.config.sweep import trains_several
    from mjxppo.errors import UserError

    if not trains_several(config):
        return {}
    try:
        curves = plot([run_dir])["path"]
    except UserError as error:
        say(f"no curves: {error}")
        return {}
    say(f"learning curves: {curves}")
    return {"curves": curves}
