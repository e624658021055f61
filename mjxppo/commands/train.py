"""``mjxppo train``: from a configuration to a policy, a proven return, and a video."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mjxppo.commands import layers
from mjxppo.commands.parsing import parse
from mjxppo.config.check import make_config
from mjxppo.config.randomize import RandomizeConfig
from mjxppo.config.schema import Config, DistillConfig, PolicyConfig
from mjxppo.config.values import defaults_for, from_dict, merge, read_yaml, to_dict, to_yaml
from mjxppo.errors import UserError
from mjxppo.files import read_json, write_json
from mjxppo.policy.evaluate import Engine, physics_of
from mjxppo.run import distributed
from mjxppo.run.directory import CONFIG, EVAL, SUMMARY, VIDEO, check_resumable, default_run_dir, latest, open_run_dir

if TYPE_CHECKING:
    from mjxppo.policy.policy import Policy
    from mjxppo.ppo.program import TrainingProgram
    from mjxppo.run.load import Loaded

_VIDEO_SECONDS = 10.0
"""Simulated time shown by the video that ends a run; ``mjxppo render`` films whole episodes."""


@dataclass(frozen=True)
class _DistillOptions(DistillConfig):
    """Imitating a teacher instead of seeking rewards; see mjxppo distill."""

    policy: tyro.conf.Suppress[PolicyConfig] = dataclasses.field(default_factory=PolicyConfig)
    normalize_obs: tyro.conf.Suppress[bool] = True


@dataclass(frozen=True)
class TrainArguments(Config):
    """All fields of a configuration, and where the run goes."""

    grid: tyro.conf.Suppress[dict[str, tuple[float, ...]]] = dataclasses.field(default_factory=dict)
    randomize: tyro.conf.Suppress[RandomizeConfig] = dataclasses.field(default_factory=RandomizeConfig)
    distill: _DistillOptions = dataclasses.field(default_factory=_DistillOptions)
    config: str | None = None
    """YAML file, or name of a shipped configuration, that replaces the task's fields; --FIELD options replace both."""
    init_from: str | None = None
    """Fine-tune the policy of a run (its directory, its ckpt/, or one step's folder), with its networks; see init."""
    set_from: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """YAML file of further changes, on top of --config; may be given several times, the last one wins."""
    run_dir: Path | None = None
    """Directory of the run; default: runs/TASK-DATE-TIME-sSEED."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --run-dir (default: the newest one) from its newest whole checkpoint."""


def main(arguments: list[str], grid: dict[str, list[float]] | None = None, base: dict[str, Any] | None = None) -> int:
    """Runs the command; returns the exit code.

    Args:
        arguments: its options.
        grid: the settings that ``mjxppo sweep`` varies.
        base: the configuration under all files and options, instead of the task's shipped one.
    """
    source = _source_of(arguments)
    parsed = _parse(arguments, {"grid": grid} if grid else {}, source, base)
    config = _config_of(parsed)
    with distributed.joined():
        distributed.check_same("config", to_yaml(config))
        # Others may have come when the first had begun the run already.
        resume = distributed.of_first(parsed.resume)
        path = Path(distributed.of_first(str(_run_dir_of(parsed, config))))
        if resume:
            check_resumable(path, config)
        from mjxppo.run import distill, finetune, loop, memory, wandb

        trainer = loop.build(config)
        if source is not None:
            finetune.check(trainer, source)
        if not resume:
            distill.check(trainer)
        if distributed.is_first():
            wandb.check(config)
        memory.check(trainer)
        with open_run_dir(path, config, resume):
            return _train(trainer, path, resume, source)


def _source_of(arguments: list[str]) -> Loaded | None:
    """The policy to begin with; what is resumed has begun."""
    if {"--resume", "-h", "--help"} & set(arguments):
        return None
    path = layers.value_of(arguments, "init-from") or layers.value_of(arguments, "init.path")
    values = {"init": {"path": path}} if path else layers.from_files(arguments)
    if not isinstance(values.get("init"), dict) or values["init"].get("path") is None:
        return None
    from mjxppo.run import finetune

    return finetune.source_of(values)


def _parse(
    arguments: list[str], changes: dict[str, Any], source: Loaded | None = None, base: dict[str, Any] | None = None
) -> TrainArguments:
    if any(argument.startswith("--randomize") for argument in arguments):
        raise UserError("randomize: is no option; write it in a YAML file and name that with --set-from")
    arguments, env_options = layers.take_env_options(arguments)
    base = _base_values(arguments, source, base)
    base = merge(base, {"env_options": env_options} if env_options else {}) | changes
    default = TrainArguments(**_as_fields(from_dict(base)))
    return parse(TrainArguments, arguments, prog="mjxppo train", description="Trains a policy.", default=default)


def _base_values(arguments: list[str], source: Loaded | None, base: dict[str, Any] | None) -> dict[str, Any]:
    """What --FIELD options replace: the resumed run's configuration, or the task's with the given files on top.

    Between these two comes what a run takes over from the policy that it begins with. A given ``base`` is instead of
    the task's.
    """
    env, path = layers.value_of(arguments, "env"), layers.value_of(arguments, "run-dir")
    changes = layers.from_files(arguments)
    if source is not None and layers.value_of(arguments, "init-from"):
        from mjxppo.run import finetune

        changes = merge(changes, {"init": {"path": finetune.named(source)}})
    if base is not None:
        return merge(base, changes)
    if "--resume" in arguments:
        directory = Path(path) if path else latest()
        return merge(read_yaml(directory / CONFIG), changes)
    env = env or changes.get("env")
    if not isinstance(env, str):
        if "-h" in arguments or "--help" in arguments:
            return {"env": "hopper"}
        raise UserError("env: say which task to train, such as --env halfcheetah")
    base = defaults_for(_canonical(env))
    if source is not None:
        from mjxppo.run import finetune

        base = merge(base, finetune.inherited(source))
    return merge(base, {**changes, "env": _canonical(env)})


def _canonical(env: str) -> str:
    from mjxppo.envs.registry import canonical_name

    return canonical_name(env)


def _as_fields(config: Config) -> dict[str, Any]:
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}
    return fields | {"distill": _DistillOptions(**vars(config.distill))}


def _config_of(parsed: TrainArguments) -> Config:
    """The parsed fields as a checked configuration."""
    values = to_dict(Config(**_as_fields(parsed)))
    values["env"] = _canonical(values["env"])
    return make_config(values)


def _run_dir_of(parsed: TrainArguments, config: Config) -> Path:
    if parsed.run_dir is not None:
        return parsed.run_dir
    return latest() if parsed.resume else default_run_dir(config)


def _train(trainer: TrainingProgram, path: Path, resume: bool, source: Loaded | None) -> int:
    from mjxppo.console import human, say
    from mjxppo.run import failure, loop

    config = trainer.config
    if not resume:
        policies = f"{len(trainer.members)} policies on " if trainer.members else ""
        say(f"training {policies}{config.env} for {human(config.total_env_steps)} steps in {path}")
    try:
        outcome = loop.train(trainer, path, resume, source=source)
    except loop.TrainingFailed as error:
        say(f"mjxppo: training stopped: {error}")
        failure.leave(config, path, error)
        return 1
    distributed.leave()
    if not distributed.is_first():
        return outcome.exit_code
    summary: dict[str, Any] = {"run_dir": str(path), **outcome._asdict()}
    if outcome.exit_code:
        say(f"stopped at {human(outcome.env_steps)} steps; saved. Go on with: mjxppo train --resume --run-dir {path}")
    else:
        speed = outcome.new_env_steps / outcome.train_s if outcome.train_s else 0.0
        say(
            f"trained {human(outcome.new_env_steps)} steps in {outcome.train_s:.1f} s "
            f"(+ {outcome.compile_s:.1f} s compilation), {human(speed)} steps/s"
        )
        summary |= _conclude(config, path, outcome.env_steps)
    write_json(path / SUMMARY, summary)
    json.dump(summary, sys.stdout, indent=1)
    print(flush=True)
    return outcome.exit_code


def _conclude(config: Config, path: Path, env_steps: int) -> dict[str, Any]:
    """Evaluates, plots and films what was trained; returns what there is to add to the summary."""
    from mjxppo.config.sweep import trains_several
    from mjxppo.console import say
    from mjxppo.envs.registry import gym_id_of
    from mjxppo.run.load import load, load_all

    added: dict[str, Any] = {}
    if config.eval.episodes:
        added["eval"] = _evaluate(load_all(path), config, path)
    if trains_several(config):
        added |= _plot(path)
    if config.eval.video and gym_id_of(config.env) is not None:
        added |= _film(load(path).policy, config, path)
    _conclude_metrics(config, path, env_steps)
    say(f"everything is in {path}; film it again with: python scripts/render.py ckpt/")
    return added


def _conclude_metrics(config: Config, path: Path, env_steps: int) -> None:
    """Adds evaluation and video to the run's TensorBoard and Weights & Biases; a nicety that must not fail the run."""
    from mjxppo.config.sweep import member_directories, members_of
    from mjxppo.console import say
    from mjxppo.files import WriteFailed
    from mjxppo.run import metrics

    video = path / VIDEO
    try:
        for directory, member in zip(member_directories(path, config), members_of(config), strict=True):
            shown = video if directory == path and config.eval.video and video.is_file() else None
            result = read_json(directory / EVAL) or {} if config.eval.episodes else {}
            metrics.conclude(directory, member.config, result, env_steps, shown)
    except (UserError, WriteFailed) as error:
        say(f"TensorBoard lacks the evaluation: {error}")


def _evaluate(policies: list[Loaded], config: Config, path: Path) -> dict[str, Any]:
    """Writes eval.json, for each policy and for all together, and says the return; returns its short form."""
    from mjxppo.config.sweep import trains_several
    from mjxppo.console import say, waiting
    from mjxppo.envs.registry import gym_id_of
    from mjxppo.policy import scores
    from mjxppo.policy.evaluate import evaluate_each

    as_trained = config.policy.privileged == "both"
    engine: Engine = "own" if as_trained or gym_id_of(config.env) is None else "gymnasium"
    with waiting(f"evaluating {config.eval.episodes} episodes" + (" of each policy" if len(policies) > 1 else "")):
        results = evaluate_each(
            [(one.policy, one.config) for one in policies], engine, config.eval.episodes, config.eval.seed, as_trained
        )
    for one, result in zip(policies, results, strict=True):
        write_json(one.run_dir / EVAL, result)
    where = "the worlds of its training" if as_trained else physics_of(results[0]["engine"])
    if trains_several(config):
        together = scores.together(config, results)
        write_json(path / EVAL, together)
        say(f"return in {where}, over {config.eval.episodes} episodes each:\n{scores.table(together)}")
        return together
    result = results[0]
    say(
        f"return in {where}: {result['mean']:.0f} +- {result['std']:.0f} over {result['episodes']} episodes "
        f"(worst {result['min']:.0f}), episode length {result['length_mean']:.0f}"
    )
    return {name: result[name] for name in ("engine", "episodes", "mean", "std", "min", "max")}


def _plot(path: Path) -> dict[str, Any]:
    """Draws the learning curves of all policies; runs too short to finish an episode have none."""
    from mjxppo.analysis.plot import plot
    from mjxppo.console import say

    try:
        curves = plot([path])["path"]
    except UserError as error:
        say(f"no curves: {error}")
        return {}
    say(f"learning curves: {curves}")
    return {"curves": curves}


def _film(policy: Policy, config: Config, path: Path) -> dict[str, Any]:
    """Writes the run's video; a missing film does not change that the policy is trained and saved."""
    from mjxppo.console import say, waiting
    from mjxppo.render import film

    try:
        with waiting("filming"):
            film(policy, config, path / VIDEO, seed=config.eval.seed, max_seconds=_VIDEO_SECONDS)
    except UserError as error:
        say(f"no video: {error}")
        return {}
    say(f"video: {path / VIDEO}")
    return {"video": str(path / VIDEO)}
