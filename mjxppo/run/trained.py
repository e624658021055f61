"""Training from Python: what ``mjxppo train`` does, as a function whose result can be used."""

from __future__ import annotations

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
from mjxppo.policy import evaluate as evaluation
from mjxppo.policy.export import export
from mjxppo.policy.policy import Policy
from mjxppo.render import film
from mjxppo.run import metrics, session
from mjxppo.run.load import load_all
from mjxppo.run.loop import Callbacks, Outcome
from mjxppo.run.metrics import Row


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
    def metrics(self) -> list[Row]:
        """What was logged, one row for each update."""
        return metrics.read_rows(self.run_dir)

    def evaluate(self, episodes: int = 100, seed: int = 1_000_000) -> dict[str, Any]:
        """Returns of whole episodes: in Gymnasium's C MuJoCo if it has the task, else in the task itself.

        Episode i is reset with seed ``seed + i``. The result has ``mean``, ``std``, ``min``, ``max``, ``returns``,
        ``lengths`` and more, ready for JSON.
        """
        if gym_id_of(self.config.env) is not None:
            return evaluation.evaluate(self.policy, self.config, "gymnasium", episodes, seed)
        return evaluation.evaluate_in(self.env, self.policy, episodes, seed)

    def render(self, out: str | PathLike[str], **options: Any) -> dict[str, Any]:
        """Films one episode to a .mp4, .gif or .html; takes ``seed``, ``max_seconds``, ``width`` and ``height``."""
        return film(self.policy, self.config, Path(out), **options)

    def export(self, out: str | PathLike[str]) -> dict[str, Any]:
        """Writes the policy to a .npz, .onnx or .stablehlo file."""
        return export(self.policy, self.config.env, Path(out), self.config.env_options)


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
    return _train(request, on_metrics, on_checkpoint)[0]


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
    **fields: Any,
) -> list[TrainedRun]:
    """Trains a policy for each of ``num_seeds`` seeds and each point of ``grid``, side by side in one program.

    Takes and raises what ``train_policy`` does: ``train_policies("hopper", num_seeds=5)``. ``on_metrics`` sees the rows
    of the first policy.

    Returns:
        One run for each policy, the seeds of the grid's first point first. Each has its own subdirectory of the run's,
        with its metrics and configuration; ``outcome`` is that of all together.
    """
    request = _request(env, config, fields, run_dir, resume)
    return _train(replace(request, evaluate=evaluate, film=film), on_metrics, on_checkpoint)


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
) -> list[TrainedRun]:
    callbacks = Callbacks(on_metrics or (lambda rows: None), on_checkpoint or (lambda step: None))
    config, path, env, outcome, summary = session.run(request, callbacks)
    if outcome.exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return [
        TrainedRun(path / member.name, member.config, env, outcome, one.policy, summary or {})
        for member, one in zip(members_of(config), load_all(path), strict=True)
    ]
