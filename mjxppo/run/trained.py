"""Training from Python: what ``mjxppo train`` does, as a function whose result can be used."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from mjxppo import envs
from mjxppo.config.layers import changes_of
from mjxppo.config.schema import Config
from mjxppo.config.sweep import members_of
from mjxppo.config.values import merge
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.files import read_json
from mjxppo.policy import evaluate as evaluation
from mjxppo.policy.export import export
from mjxppo.policy.policy import Policy
from mjxppo.render import film
from mjxppo.run import metrics, session
from mjxppo.run.directory import SUMMARY, run_of_member
from mjxppo.run.load import load, load_all
from mjxppo.run.loop import Callbacks, Outcome
from mjxppo.run.metrics import Row
from mjxppo.run.model_files import as_trained


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, with its files in ``run_dir``."""

    run_dir: Path
    config: Config
    env: envs.Environment
    """The task itself, without what ``randomize`` does to it."""
    outcome: Outcome
    policy: Policy
    """The newest checkpoint's deterministic policy: actions [..., action_size] for observations [..., obs_size]."""
    summary: dict[str, Any]
    """What ``summary.json`` of the whole run holds: how training ended, and the evaluation and film if asked for."""

    @property
    def rows(self) -> list[Row]:
        """What was logged, one row for each update."""
        return metrics.read_rows(self.run_dir)

    @property
    def metrics(self) -> Any:
        """What was logged: a pandas DataFrame where pandas is installed, else as ``rows``."""
        if importlib.util.find_spec("pandas") is None:
            return self.rows
        import pandas as pd  # an optional package

        return pd.DataFrame(self.rows)

    @property
    def best(self) -> Policy:
        """The policy of the best evaluation while training; raises UserError where ``eval.every_env_steps`` was 0."""
        return load(self.run_dir, of_best_evaluation=True).policy

    @property
    def evaluations(self) -> list[Row]:
        """The evaluations while training, one row for each, with ``eval/return_mean``."""
        return metrics.read_evaluations(self.run_dir)

    def evaluate(self, episodes: int = 100, seed: int = 1_000_000) -> dict[str, Any]:
        """Returns of whole episodes: in Gymnasium's C MuJoCo if it has the task, else in the task itself.

        Episode i is reset with seed ``seed + i``. The result has ``mean``, ``std``, ``min``, ``max``, ``returns``,
        ``lengths`` and more, ready for JSON.
        """
        if gym_id_of(self.config.env) is not None:
            return evaluation.evaluate(self.policy, self._config_as_trained(), "gymnasium", episodes, seed)
        return evaluation.evaluate_in(self.env, self.policy, episodes, seed)

    def render(self, out: str | PathLike[str], **options: Any) -> dict[str, Any]:
        """Films one episode to a .mp4, .gif or .html; takes ``seed``, ``max_seconds``, ``width`` and ``height``."""
        return film(self.policy, self._config_as_trained(), Path(out), **options)

    def export(self, out: str | PathLike[str]) -> dict[str, Any]:
        """Writes the policy to a .npz, .onnx or .stablehlo file."""
        return export(self.policy, self.config.env, Path(out), self._config_as_trained().env_options)

    def _config_as_trained(self) -> Config:
        return as_trained(self.config, run_of_member(self.run_dir) or self.run_dir)


def load_run(path: str | PathLike[str]) -> TrainedRun:
    """A run that was trained before, or still trains, with its newest checkpoint's policy.

    Args:
        path: a run directory, its ``ckpt/``, one step's folder, or the directory of one of several policies.

    Raises:
        UserError: there is no checkpoint, or its task is not known here.
    """
    found = load(Path(path))
    env = envs.make(found.config.env, backend=found.config.physics.backend, **found.config.env_options)
    run_dir = run_of_member(found.run_dir) or found.run_dir
    summary = read_json(run_dir / SUMMARY) or {}
    if not set(Outcome._fields) - set(Outcome._field_defaults) <= set(summary):  # it still trains, or was killed
        return TrainedRun(found.run_dir, found.config, env, _outcome_so_far(found.run_dir), found.policy, summary)
    outcome = Outcome(**{name: summary[name] for name in Outcome._fields if name in summary})
    return TrainedRun(found.run_dir, found.config, env, outcome, found.policy, summary)


def _outcome_so_far(run_dir: Path) -> Outcome:
    """The outcome of a run that has not ended, from its metrics; what these do not say is 0."""
    rows = metrics.read_rows(run_dir)
    last = rows[-1] if rows else {"env_steps": 0, "update": 0}
    return Outcome(
        env_steps=last["env_steps"],
        new_env_steps=last["env_steps"],
        updates=last["update"],
        expected_return=last.get("expected_return"),
        train_s=last.get("time_s") or 0.0,
        compile_s=0.0,
        exit_code=0,
        ended_by=None,
    )


def train_policy(
    env: str | envs.Environment | Any,
    *,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    evaluate: bool = False,
    film: bool = False,
    on_metrics: Callable[[list[Row]], object] | None = None,
    on_checkpoint: Callable[[Path], object] | None = None,
    on_evaluation: Callable[[Row], object] | None = None,
    **fields: Any,
) -> TrainedRun:
    """Trains a policy and returns it; writes the same files as ``mjxppo train``.

    Args:
        env: a task by name, as ``envs.make`` takes it, or an environment itself.
        config: fields that replace those of the task's shipped configuration, or a YAML file of fields.
        run_dir: where the run is written; by default a new directory under ``runs/``.
        resume: go on with the run in ``run_dir`` from its newest checkpoint.
        evaluate: evaluate at the end, as ``eval`` in the configuration says; writes ``eval.json``.
        film: film an episode at the end; writes ``video.mp4``.
        on_metrics: called after each device call with the rows of its updates, oldest first. If it returns True,
            training stops as at its end.
        on_checkpoint: called with the folder of each checkpoint that has become whole.
        on_evaluation: called with the row of each evaluation while training (``eval.every_env_steps``) when it is
            finished. If it returns True, training stops as at its end.
        fields: replace those of ``config``, sections being mappings: ``total_env_steps=10**6, ppo={"gamma": 0.99}``.
            ``init={"path": "runs/pretrained"}`` fine-tunes the policy there, with its networks.
            ``distill={"teacher": "runs/teacher"}`` imitates the policy there, with its configuration as the default.

    Raises:
        UserError: a field is unknown or wrong, or the directory cannot be used.
        mjxppo.run.loop.TrainingFailed: too many worlds became non-finite, or the run could not be saved.
        KeyboardInterrupt: on Ctrl-C, when the state has been saved.
        SystemExit: on SIGTERM, when the state has been saved.
    """
    request = _request(env, config, fields, run_dir, resume)
    request = replace(request, evaluate=evaluate, film=film, one_policy=True)
    return _train(request, on_metrics, on_checkpoint, on_evaluation)[0]


def train_policies(
    env: str | envs.Environment | Any,
    *,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    evaluate: bool = False,
    film: bool = False,
    on_metrics: Callable[[list[Row]], object] | None = None,
    on_checkpoint: Callable[[Path], object] | None = None,
    on_evaluation: Callable[[Row], object] | None = None,
    **fields: Any,
) -> list[TrainedRun]:
    """Trains a policy for each of ``num_seeds`` seeds and each point of ``grid``, side by side in one program.

    Takes and raises what ``train_policy`` does: ``train_policies("hopper", num_seeds=5)``. ``on_metrics`` and
    ``on_evaluation`` see the rows of the first policy.

    Returns:
        One run for each policy, the seeds of the grid's first point first. Each has its own subdirectory of the run's,
        with its metrics and configuration; ``outcome`` is that of all together.
    """
    request = _request(env, config, fields, run_dir, resume)
    return _train(replace(request, evaluate=evaluate, film=film), on_metrics, on_checkpoint, on_evaluation)


def _request(
    env: str | envs.Environment | Any,
    config: Mapping[str, Any] | str | PathLike[str] | None,
    fields: Mapping[str, Any],
    run_dir: str | PathLike[str] | None,
    resume: bool,
) -> session.Request:
    if resume and run_dir is None:
        raise UserError("run_dir: say which run to resume")
    files = [config] if isinstance(config, str | PathLike) else []
    changes = changes_of(files, merge(config, fields) if isinstance(config, Mapping) else fields)
    return session.Request(
        changes=changes | {"env": env} if isinstance(env, str) else changes,
        env=None if isinstance(env, str) else env,
        run_dir=None if run_dir is None else Path(run_dir),
        resume=resume,
    )


def _train(
    request: session.Request,
    on_metrics: Callable[[list[Row]], object] | None,
    on_checkpoint: Callable[[Path], object] | None,
    on_evaluation: Callable[[Row], object] | None,
) -> list[TrainedRun]:
    nothing: Callable[[Any], object] = lambda _: None  # noqa: E731
    callbacks = Callbacks(on_metrics or nothing, on_checkpoint or nothing, on_evaluation or nothing)
    config, path, env, outcome, summary = session.run(request, callbacks)
    if outcome.exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return [
        TrainedRun(path / member.name, member.config, env, outcome, one.policy, summary or {})
        for member, one in zip(members_of(config), load_all(path), strict=True)
    ]
