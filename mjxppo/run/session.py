"""A whole run: layers of settings, build, check, train, dump of a failure, evaluation, video.

The command line, ``mjxppo.train_policy``, sweeps and studies all call ``run``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mjxppo import envs
from mjxppo.config import layers
from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.config.values import merge, plain, read_yaml, to_yaml
from mjxppo.console import human, program, say
from mjxppo.envs.build import prepare
from mjxppo.envs.registry import TASKS, canonical_name, gym_id_of
from mjxppo.envs.robot import model_file
from mjxppo.envs.robot_task import RobotTask
from mjxppo.errors import UserError
from mjxppo.files import write_json
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import conclude, distill, distributed, evaluator, failure, finetune, loop, memory, start, wandb
from mjxppo.run.directory import CONFIG, SUMMARY, check_resumable, latest, new_run_dir, open_run_dir
from mjxppo.run.jax_settings import check_jax_settings
from mjxppo.run.load import Loaded, load_all
from mjxppo.run.loop import Callbacks
from mjxppo.run.outcome import Outcome


@dataclass(frozen=True)
class Request:
    """The settings of a run, and what to do after training."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """Plain values on top of the task's shipped configuration, see ``config.layers.changes_of``."""
    env: Any = None
    """An environment to train on; None: the task that ``changes`` name, or that of the run to resume."""
    run_dir: Path | None = None
    """Where the run is written; None: a new directory under ``runs/``, or the newest run to resume."""
    resume: bool = False
    """Go on with the run in ``run_dir`` from its newest checkpoint."""
    evaluate: bool = True
    """Evaluate at the end, as ``eval`` in the configuration says."""
    film: bool = True
    """Film an episode at the end, if ``eval.video``."""
    one_policy: bool = False
    """Refuse several seeds and grids."""


class Result(NamedTuple):
    """The result of a run."""

    config: Config
    run_dir: Path
    env: envs.Environment
    """The task itself, without what ``randomize`` does to it."""
    outcome: Outcome
    summary: dict[str, Any] | None
    """What ``summary.json`` holds; None in all processes but the first."""


def run(
    request: Request,
    callbacks: Callbacks = Callbacks(),  # noqa: B008  (immutable)
    finished: Callable[[Config, Path], dict[str, Any]] = lambda config, run_dir: {},
) -> Result:
    """Does a whole run.

    Args:
        request: the run's settings.
        callbacks: called with metrics and checkpoints while it trains.
        finished: called after training and evaluation, unless interrupted; its result is added to the summary.

    Raises:
        UserError: a field is unknown or wrong, or the directory cannot be used; nothing has been written then.
        TrainingFailed: too many worlds became non-finite, or the run could not be saved. Writes a dump of the failure.
    """
    check_jax_settings()
    resumed = (request.run_dir or latest()) if request.resume else None
    # Before a checkpoint is read, or several processes meet: both start JAX's backend.
    prepare(merge(read_yaml(resumed / CONFIG), request.changes) if resumed else request.changes)
    given_env = None if request.env is None else envs.make(request.env)
    config, source = configuration_of(request.changes, given_env, resumed)
    if request.one_policy and trains_several(config):
        raise UserError("num_seeds: train_policy trains one policy; train_policies trains several")
    with distributed.joined():
        distributed.check_same("config", to_yaml(config))
        resume = distributed.from_first_process(request.resume)
        name = distributed.from_first_process(str(resumed or request.run_dir or ""))
        if resume:
            check_resumable(Path(name), config)
        program = start.build(config, given_env, run_dir=Path(name) if resume else None)
        task = given_env or envs.make(program.env.task.unwrapped)
        _check(program, source, resume)
        if not resume:
            evaluator.check(config, task)
        # Made by the first process, and last of all: nothing is left behind where something is wrong.
        if not name:
            name = distributed.from_first_process(str(new_run_dir(config)) if distributed.is_first() else "")
        path = Path(name)
        with open_run_dir(path, config, resume):
            outcome = _train(program, path, resume, callbacks, source, can_be_replayed=given_env is None)
            distributed.leave()
            summary = None
            if distributed.is_first():
                summary = _conclude(request, config, path, task, outcome, finished)
    return Result(config, path, task, outcome, summary)


def configuration_of(
    changes: Mapping[str, Any], env: envs.Environment | None = None, resumed: Path | None = None
) -> tuple[Config, Loaded | None]:
    """The checked configuration of a run, and the pretrained policy of ``init.path``, if any.

    Layers, later ones on top: the task's shipped configuration; fields of the policy of ``init.path``, or the
    configuration of ``distill.teacher``; ``changes``. When a run is resumed, its own configuration replaces the first
    two. Raises UserError where a field is unknown or wrong, or a policy that is named cannot be read.
    """
    if resumed is not None:
        own = read_yaml(resumed / CONFIG)
        if changes.get("algorithm") not in (None, present := own.get("algorithm", "ppo")):
            raise UserError(f"algorithm: cannot change in a run that goes on; {resumed} is a run of {present}")
        values = merge(own, changes)
        described = {"env": _name_of_task(values)} if env is None else _fields_of_env(env)
        _refuse_other_options(changes, described)
        config = make_config(values | described)
        # The file of its own, which is gone from this machine, is replaced by the copy in the run's directory.
        unchanged = config.env_options.get("xml_file") == (own.get("env_options") or {}).get("xml_file")
        return config if unchanged else _with_absolute_file(config), None
    source = finetune.load_source(changes)
    teacher = distill.load_teacher_of(changes)
    inherited: dict[str, Any] = {}
    if source is not None:
        inherited = finetune.inherited_fields(source)
        # The folder of the policy, also where it is the best of its run.
        changes = merge(changes, {"init": {"path": finetune.source_name(source), "best": False}})
    if teacher is not None:
        inherited = distill.student_defaults(teacher)
        changes = merge(changes, {"distill": {"teacher": finetune.source_name(teacher)}})
    described = {"env": _name_of_task(merge(inherited, changes))} if env is None else _fields_of_env(env)
    _refuse_other_options(changes, described)
    return _with_absolute_file(layers.resolve(described["env"], dict(changes) | described, inherited)), source


def _with_absolute_file(config: Config) -> Config:
    """The configuration, in which a model file that is no file of Gymnasium's is named by its absolute path."""
    if "xml_file" not in config.env_options:
        return config
    return replace(config, env_options={**config.env_options, "xml_file": model_file(config.env_options["xml_file"])})


def _name_of_task(values: Mapping[str, Any]) -> str:
    name = values.get("env")
    if not isinstance(name, str):
        raise UserError("env: say which task to train, such as --env halfcheetah")
    return canonical_name(name)


def _fields_of_env(env: envs.Environment) -> dict[str, Any]:
    """The fields ``env``, ``env_options`` and ``physics`` for an environment; only its name if it is not a task here.

    Raises UserError where it has the name of one of this package's tasks and is another one.
    """
    task = env.task
    if env.name not in TASKS:
        return {"env": env.name, "env_options": _plain_options(task.made_with or {})}
    if type(task) is not TASKS[env.name].task:
        raise UserError(f"env: {type(task).__name__} is named as the task {env.name!r} is; give it a name of its own")
    own: Any = task  # the tasks here have options, with defaults throughout
    default = asdict(own.Options())
    changed = {name: value for name, value in asdict(own.options).items() if value != default[name]}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
    described = {"env": env.name, "env_options": plain}
    return described | {"physics": {"backend": task.physics.name}} if isinstance(task, RobotTask) else described


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as ``config.yaml`` holds them, from which evaluations make the environment again."""
    for name, value in options.items():
        try:
            yaml.safe_dump(plain(value))
        except yaml.YAMLError as error:
            kind = type(value).__name__
            raise UserError(f"env_options.{name}: config.yaml cannot hold a {kind}; pass plain values") from error
    return dict(options)


def _refuse_other_options(changes: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """Raises UserError where ``changes`` set other options than those of an environment that is passed in."""
    given = changes.get("env_options")
    if "env_options" in described and given not in (None, {}, described["env_options"]):
        raise UserError("env_options: the environment that is handed in has its own; set them where it is made")


def _check(program: TrainingProgram, source: Loaded | None, resume: bool) -> None:
    """Checks, before anything is written, what would otherwise fail after minutes of compilation."""
    if source is not None:
        finetune.check_source(program, source)
    if not resume:
        distill.check_teacher(program)
    if distributed.is_first():
        wandb.check_installed(program.config)
    memory.check_fits(program)


def _train(
    program: TrainingProgram,
    path: Path,
    resume: bool,
    callbacks: Callbacks,
    source: Loaded | None,
    can_be_replayed: bool,
) -> Outcome:
    config = program.config
    if not resume:
        start.say_what(program.env.task.unwrapped)
        policies = f"{len(members_of(config))} policies on " if program.members else ""
        say(f"training {policies}{config.env} for {human(config.total_env_steps)} steps in {path}")
    try:
        return loop.train(program, path, resume, callbacks, source)
    except loop.TrainingFailed as error:
        if can_be_replayed:  # only where the configuration describes the environment
            failure.try_write_dump(config, path, error)
        raise


def _say_why_early(config: Config, outcome: Outcome) -> None:
    """Says why a run has ended before its budget."""
    reasons = {
        "stop_at_return": f"an evaluation reached a return of {config.eval.stop_at_return} (eval.stop_at_return)",
        "patience": f"the best evaluation was not exceeded by the {config.eval.patience} after it (eval.patience)",
    }
    if outcome.ended_by in reasons:
        say(f"ended before its budget: {reasons[outcome.ended_by]}")


def _conclude(
    request: Request,
    config: Config,
    path: Path,
    env: envs.Environment,
    outcome: Outcome,
    finished: Callable[[Config, Path], dict[str, Any]],
) -> dict[str, Any]:
    """Evaluates and films a run that was not interrupted; writes the summary of any run."""
    summary: dict[str, Any] = {"run_dir": str(path), **outcome._asdict()}
    if outcome.exit_code:
        again = f"{program()} train --resume --run-dir {shlex.quote(str(path))}"
        say(f"stopped at {human(outcome.env_steps)} steps; saved. Go on with: {again}")
    else:
        speed = outcome.new_env_steps / outcome.train_s if outcome.train_s else 0.0
        say(
            f"trained {human(outcome.new_env_steps)} steps in {outcome.train_s:.1f} s "
            f"(+ {outcome.compile_s:.1f} s compilation), {human(speed)} steps/s"
        )
        _say_why_early(config, outcome)
        summary |= conclude.newest_and_best(config, path, outcome)
        evaluated = request.evaluate and config.eval.episodes > 0
        filmed = request.film and config.eval.video and gym_id_of(config.env) is not None
        policies = load_all(path) if evaluated or filmed else []
        if evaluated:
            summary |= conclude.evaluate_run(config, path, env, policies)
            evaluated = "eval" in summary
        summary |= finished(config, path)
        if filmed:
            summary |= conclude.film_run(path, policies)
        if evaluated or "video" in summary:
            conclude.add_to_logs(config, path, outcome.env_steps, evaluated, "video" in summary)
    write_json(path / SUMMARY, summary)
    return summary
