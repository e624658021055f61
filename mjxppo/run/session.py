"""Training from Python: what ``mjxppo train`` does, as a function whose result can be used."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from mjxppo import envs
from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of, trains_several
from mjxppo.config.values import defaults_for, merge, read_named, read_yaml
from mjxppo.envs.locomotion import Locomotion
from mjxppo.envs.registry import TASKS, canonical_name, gym_id_of
from mjxppo.errors import UserError
from mjxppo.policy import evaluate, export
from mjxppo.policy.policy import Policy
from mjxppo.run import distill, failure, finetune, load, loop, memory, metrics, wandb
from mjxppo.run.directory import CONFIG, check_resumable, default_run_dir, open_run_dir
from mjxppo.run.load import Loaded
from mjxppo.run.loop import Callbacks, Outcome
from mjxppo.run.metrics import Row


@dataclass(frozen=True)
class TrainedRun:
    """A run that has been trained, with its files in ``run_dir``."""

    run_dir: Path
    config: Config
    env: envs.Environment
    """The task itself, without what ``randomize`` does to it."""
    outcome: Outcome
    policy: Policy
    """The newest checkpoint's deterministic policy: actions [..., action_size] for observations [..., obs_size]."""

    @property
    def metrics(self) -> list[Row]:
        """What was logged, one row for each update."""
        return metrics.read_rows(self.run_dir)

    def evaluate(self, episodes: int = 100, seed: int = 1_000_000) -> dict[str, Any]:
        """Returns of whole episodes: in Gymnasium's C MuJoCo where it has the task, else in the task itself.

        Args:
            episodes: episode i is reset with seed ``seed + i``.
            seed: the first episode's seed.

        Returns:
            ``mean``, ``std``, ``min``, ``max``, ``returns``, ``lengths`` and more, ready for JSON.
        """
        if gym_id_of(self.config.env) is not None:
            return evaluate.evaluate(self.policy, self.config, "gymnasium", episodes, seed)
        return evaluate.evaluate_in(self.env, self.policy, episodes, seed)

    def render(self, out: str | PathLike[str], **options: Any) -> dict[str, Any]:
        """Films one episode to a .mp4, .gif or .html; takes ``seed``, ``max_seconds``, ``width`` and ``height``."""
        from mjxppo.render import film

        return film(self.policy, self.config, Path(out), **options)

    def export(self, out: str | PathLike[str]) -> dict[str, Any]:
        """Writes the policy to a .npz, .onnx or .stablehlo file."""
        return export.export(self.policy, self.config.env, Path(out), self.config.env_options)


def train_policy(
    env: str | envs.Environment | Any,
    *,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    on_metrics: Callable[[list[Row]], object] | None = None,
    on_checkpoint: Callable[[Path], object] | None = None,
    **fields: Any,
) -> TrainedRun:
    """Trains a policy and gives it back, with all that ``mjxppo train`` writes; does not evaluate or film it.

    Args:
        env: a task by name, as ``envs.make`` takes it, or an environment itself.
        config: fields that replace those of the task's shipped configuration, or a YAML file with such.
        run_dir: where the run is written; by default a new directory under ``runs/``.
        resume: go on with the run in ``run_dir`` from its newest checkpoint.
        on_metrics: called with the rows of the updates that the device has just finished, oldest first. Training
            stops, as if it had reached its end, when it returns True.
        on_checkpoint: called with the folder of each checkpoint that has become whole.
        fields: replace those of ``config``, sections being mappings: ``total_env_steps=10**6, ppo={"gamma": 0.99}``.
            ``init={"path": "runs/pretrained"}`` fine-tunes the policy there, with its networks.
            ``distill={"teacher": "runs/teacher"}`` imitates the one there, on top of its configuration.

    Raises:
        UserError: a field is unknown or wrong, or the directory cannot be used.
        mjxppo.run.loop.TrainingFailed: too many worlds became non-finite, or the run could not be saved.
        KeyboardInterrupt: on Ctrl-C, when the state has been saved.
        SystemExit: on SIGTERM, likewise.
    """
    plan = _plan(env, config, fields, run_dir, resume)
    if trains_several(plan.config):
        raise UserError("num_seeds: train_policy trains one policy; train_policies trains several")
    return _train(plan, on_metrics, on_checkpoint)[0]


def train_policies(
    env: str | envs.Environment | Any,
    *,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    on_metrics: Callable[[list[Row]], object] | None = None,
    on_checkpoint: Callable[[Path], object] | None = None,
    **fields: Any,
) -> list[TrainedRun]:
    """Trains a policy for each of ``num_seeds`` seeds and each point of ``grid``, side by side in one program.

    Takes and raises what ``train_policy`` does: ``train_policies("hopper", num_seeds=5)``. ``on_metrics`` sees the rows
    of the first policy.

    Returns:
        One for each policy, the seeds of the grid's first point first. Each has a directory of its own in the run's,
        which holds its metrics and its configuration; ``outcome`` is that of all together.
    """
    return _train(_plan(env, config, fields, run_dir, resume), on_metrics, on_checkpoint)


class _Plan(NamedTuple):
    """What is to be trained, and where."""

    config: Config
    run_dir: Path
    resume: bool
    task: envs.Environment
    named: bool
    """Whether the task went by name; what has none cannot be built again."""
    source: Loaded | None
    """The policy to begin with."""


def _plan(
    env: str | envs.Environment | Any,
    config: Mapping[str, Any] | str | PathLike[str] | None,
    fields: Mapping[str, Any],
    run_dir: str | PathLike[str] | None,
    resume: bool,
) -> _Plan:
    made = None if isinstance(env, str) else envs.make(env)
    described = {"env": canonical_name(str(env))} if made is None else _described(made)
    resumed = Path(run_dir) if resume and run_dir is not None else None
    checked, source = _configuration(described, config, fields, resumed)
    if resume and run_dir is None:
        raise UserError("run_dir: say which run to resume")
    path = default_run_dir(checked) if run_dir is None else Path(run_dir)
    if resume:
        check_resumable(path, checked)
    task = made or envs.make(checked.env, backend=checked.physics.backend, **checked.env_options)
    return _Plan(checked, path, resume, task, made is None, source)


def _train(
    plan: _Plan, on_metrics: Callable[[list[Row]], object] | None, on_checkpoint: Callable[[Path], object] | None
) -> list[TrainedRun]:
    config, path = plan.config, plan.run_dir
    trainer = loop.build(config, plan.task)
    if plan.source is not None:
        finetune.check(trainer, plan.source)
    if not plan.resume:
        distill.check(trainer)
    wandb.check(config)
    memory.check(trainer)
    callbacks = Callbacks(on_metrics or (lambda rows: None), on_checkpoint or (lambda step: None))
    with open_run_dir(path, config, plan.resume):
        try:
            outcome = loop.train(trainer, path, plan.resume, callbacks, plan.source)
        except loop.TrainingFailed as error:
            if plan.named:
                failure.leave(config, path, error)
            raise
    if outcome.exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return [
        TrainedRun(path / member.name, member.config, plan.task, outcome, one.policy)
        for member, one in zip(members_of(config), load.load_all(path), strict=True)
    ]


def _described(env: envs.Environment) -> dict[str, Any]:
    """The fields of a configuration that say which environment this is, as far as a name and options can."""
    if env.name not in TASKS:
        return {"env": env.name, "env_options": {}}
    task = env.task
    if not isinstance(task, Locomotion) or type(task) is not TASKS[env.name].task:
        raise UserError(f"env: {type(task).__name__} is named as the task {env.name!r} is; give it a name of its own")
    default = asdict(task.Options())  # type: ignore[call-arg]  # the tasks' own options have defaults throughout
    changed = {name: value for name, value in asdict(task.options).items() if value != default[name]}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
    return {"env": env.name, "env_options": plain, "physics": {"backend": task.physics.name}}


def _configuration(
    described: dict[str, Any],
    config: Mapping[str, Any] | str | PathLike[str] | None,
    fields: Mapping[str, Any],
    resumed: Path | None,
) -> tuple[Config, Loaded | None]:
    """The task's shipped configuration, or that of the run to resume, with the changes on top; checked.

    Also the policy to begin with, if the changes name one, whose networks lie between the two.
    """
    changes = read_named(config) if isinstance(config, str | PathLike) else config or {}
    changes = merge(changes, fields)
    source = finetune.source_of(changes) if resumed is None else None
    teacher = distill.teacher_of(changes) if resumed is None else None
    base = defaults_for(described["env"]) if resumed is None else read_yaml(resumed / CONFIG)
    if source is not None:
        base = merge(base, finetune.inherited(source))
    if teacher is not None:
        base = distill.configuration(teacher)
        changes = merge(changes, {"distill": {"teacher": base["distill"]["teacher"]}})
    values = merge(base, changes)
    given = values.get("env_options")
    if "env_options" in described and given not in (None, {}, described["env_options"]):
        raise UserError("env_options: the environment that is handed in has its own; set them where it is made")
    return make_config(values | described), source
