"""The end of a run after training: evaluation, video, and their entries in the run's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories, members_of, trains_several
from mjxppo.console import say, waiting
from mjxppo.envs import Environment
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, read_json, write_json
from mjxppo.policy import scores
from mjxppo.policy.engine import Engine, physics_of
from mjxppo.policy.evaluate import evaluate_each
from mjxppo.render import film
from mjxppo.run import metrics
from mjxppo.run.directory import EVAL, VIDEO
from mjxppo.run.load import load, load_all

_VIDEO_SECONDS = 10.0
"""Simulated time shown by the video that ends a run; ``mjxppo render`` films whole episodes."""


def engine_of(config: Config) -> Engine:
    """The engine that evaluates a run's policy: Gymnasium's, or its own for other tasks and privileged observations."""
    needs_simulation = config.policy.privileged == "both"
    return "own" if needs_simulation or gym_id_of(config.env) is None else "gymnasium"


def evaluate_run(config: Config, run_dir: Path, env: Environment) -> dict[str, Any]:
    """Evaluates a run's newest policies on its task ``env``, prints the return, and writes ``eval.json``.

    Returns the content of ``eval.json`` as ``eval``, for a run of one policy without its single episodes; or prints why
    there is no return, and returns nothing.
    """
    try:
        return {"eval": _evaluate_run(config, run_dir, env)}
    except UserError as error:
        say(f"no evaluation: {error}")
        return {}


def _evaluate_run(config: Config, run_dir: Path, env: Environment) -> dict[str, Any]:
    policies = load_all(run_dir)
    as_trained = config.policy.privileged == "both"
    with waiting(f"evaluating {config.eval.episodes} episodes" + (" of each policy" if len(policies) > 1 else "")):
        results = evaluate_each(
            [(one.policy, one.config) for one in policies],
            engine_of(config),
            config.eval.episodes,
            config.eval.seed,
            as_trained,
            env,
        )
    for one, result in zip(policies, results, strict=True):
        write_json(one.run_dir / EVAL, result)
        if result["broken_seeds"]:
            say(f"left out {len(result['broken_seeds'])} episodes of {one.run_dir}, whose worlds broke")
    where = "the worlds of its training" if as_trained else physics_of(results[0]["engine"])
    if trains_several(config):
        return _say_and_write_members(config, run_dir, results, where)
    result = results[0]
    say(
        f"return in {where}: {result['mean']:.0f} +- {result['std']:.0f} over {result['episodes']} episodes "
        f"(worst {result['min']:.0f}), episode length {result['length_mean']:.0f}"
    )
    return {name: result[name] for name in ("engine", "episodes", "mean", "std", "min", "max")}


def _say_and_write_members(
    config: Config, run_dir: Path, results: Sequence[dict[str, Any]], where: str
) -> dict[str, Any]:
    summary = scores.summarize_members(config, results)
    write_json(run_dir / EVAL, summary)
    say(f"return in {where}, over {config.eval.episodes} episodes each:\n{scores.format_table(summary)}")
    return summary


def film_run(config: Config, run_dir: Path) -> dict[str, Any]:
    """Writes a run's ``video.mp4``; returns its path as ``video``, or prints why that failed and returns nothing."""
    policy = load(run_dir).policy
    try:
        with waiting("filming"):
            film(policy, config, run_dir / VIDEO, seed=config.eval.seed, max_seconds=_VIDEO_SECONDS)
    except UserError as error:
        say(f"no video: {error}")
        return {}
    say(f"video: {run_dir / VIDEO}")
    return {"video": str(run_dir / VIDEO)}


def add_to_logs(config: Config, run_dir: Path, env_steps: int, evaluated: bool, filmed: bool) -> None:
    """Adds evaluation and video to the run's TensorBoard and Weights & Biases; prints an error."""
    try:
        for directory, member in zip(member_directories(run_dir, config), members_of(config), strict=True):
            video = run_dir / VIDEO if filmed and directory == run_dir else None
            result = read_json(directory / EVAL) or {} if evaluated else {}
            metrics.conclude(directory, member.config, result, env_steps, video)
    except (UserError, WriteFailed) as error:
        say(f"TensorBoard lacks the evaluation: {error}")
