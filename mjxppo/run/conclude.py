"""The end of a run after training: evaluation, video, and their entries in the run's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories, members_of, trains_several
from mjxppo.console import human, say, score, waiting
from mjxppo.envs import Environment
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.files import WriteFailed, read_json, write_json
from mjxppo.policy import scores
from mjxppo.policy.engine import Engine, physics_of
from mjxppo.policy.evaluate import evaluate, evaluate_each
from mjxppo.render import film
from mjxppo.run import best, metrics
from mjxppo.run.directory import EVAL, VIDEO
from mjxppo.run.load import Loaded, best_of, load_all
from mjxppo.run.outcome import Outcome

_VIDEO_SECONDS = 10.0
"""Simulated time shown by the video that ends a run; ``mjxppo render`` films whole episodes."""


def engine_of(config: Config) -> Engine:
    """The engine that evaluates a run's policy: Gymnasium's, or its own for other tasks and privileged observations."""
    needs_simulation = config.policy.privileged == "both"
    return "own" if needs_simulation or gym_id_of(config.env) is None else "gymnasium"


def evaluate_run(config: Config, run_dir: Path, env: Environment, policies: Sequence[Loaded]) -> dict[str, Any]:
    """Evaluates a run's newest ``policies`` on its task ``env``, prints the return, and writes ``eval.json``.

    Returns the content of ``eval.json`` as ``eval``, for a run of one policy without its single episodes; or prints why
    there is no return, and returns nothing.
    """
    try:
        return {"eval": _evaluate_run(config, run_dir, env, policies)}
    except UserError as error:
        say(f"no evaluation: {error}")
        return {}


def _evaluate_run(config: Config, run_dir: Path, env: Environment, policies: Sequence[Loaded]) -> dict[str, Any]:
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
    where = "the worlds of its training" if as_trained else physics_of(results[0]["engine"], config.env)
    if trains_several(config):
        return _say_and_write_members(config, run_dir, results, where)
    result = results[0]
    say(
        f"return in {where}: {score(result['mean'])} +- {score(result['std'])} over {result['episodes']} episodes "
        f"(worst {score(result['min'])}), episode length {result['length_mean']:.0f}"
    )
    return {name: result[name] for name in ("engine", "episodes", "mean", "std", "min", "max")}


def _say_and_write_members(
    config: Config, run_dir: Path, results: Sequence[dict[str, Any]], where: str
) -> dict[str, Any]:
    summary = scores.summarize_members(config, results)
    write_json(run_dir / EVAL, summary)
    say(f"return in {where}, over {config.eval.episodes} episodes each:\n{scores.format_table(summary)}")
    return summary


def newest_and_best(config: Config, run_dir: Path, outcome: Outcome) -> dict[str, Any]:
    """The newest and the best policy of a run, ready for JSON, as ``newest`` and ``best``; prints where both are.

    ``best`` is by the evaluations while training, by policy where there are several; missing where none was made.
    """
    result: dict[str, Any] = {"newest": {"update": outcome.updates, "env_steps": outcome.env_steps}}
    found = {}
    for directory, member in zip(member_directories(run_dir, config), members_of(config), strict=True):
        kept = best.read_best(directory)
        if kept is not None:
            step, row = kept
            facts = {"update": row["update"], "env_steps": row["env_steps"], "return_mean": row[metrics.RETURN]}
            found[member.name] = facts | {"path": str(step)}
    if not found:
        return result
    chosen = max(found.values(), key=lambda one: one["return_mean"])
    say(
        f"best of the evaluations: {score(chosen['return_mean'])} at {human(chosen['env_steps'])} steps, in "
        f"{Path(chosen['path']).parent} (--best); newest: {human(outcome.env_steps)} steps"
    )
    return result | {"best": found if trains_several(config) else chosen}


def show_best(run: Path) -> None:
    """Evaluates and films the best policy of a run of one policy, or of a policy's directory, into its own folder.

    Raises UserError where there is none, or several.
    """
    found = load_all(run, of_best_evaluation=True)
    if len(found) > 1:
        raise UserError(
            f"best: {run} holds {len(found)} policies; name the directory of one, such as {found[0].run_dir}"
        )
    policy, config, step = found[0].policy, found[0].config, found[0].step
    as_trained = config.policy.privileged == "both"
    episodes = config.eval.episodes or 100
    if not (step / EVAL).is_file():
        with waiting(f"evaluating {episodes} episodes"):
            result = evaluate(policy, config, engine_of(config), episodes, config.eval.seed, None, as_trained)
        write_json(step / EVAL, result)
    if gym_id_of(config.env) is not None and not (step / VIDEO).is_file():
        film_run(step, found)


def film_run(run_dir: Path, policies: Sequence[Loaded]) -> dict[str, Any]:
    """Writes a run's ``video.mp4``, of the best of its newest ``policies``.

    Returns the film's path as ``video``; or prints why there is none, and returns nothing.
    """
    chosen = best_of(policies, run_dir)
    seed = chosen.config.eval.seed
    try:
        film(chosen.policy, chosen.config, run_dir / VIDEO, seed=seed, max_seconds=_VIDEO_SECONDS)
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
