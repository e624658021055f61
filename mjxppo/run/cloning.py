"""Behaviour cloning as a run: the policy is learned, saved, evaluated and filmed as that of any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo import envs, xla
from mjxppo.config.cloning import CloningConfig
from mjxppo.config.schema import Config
from mjxppo.config.sweep import trains_several
from mjxppo.console import counted, say, score
from mjxppo.envs.build import prepare
from mjxppo.envs.registry import gym_id_of
from mjxppo.errors import UserError
from mjxppo.files import write_json
from mjxppo.policy import minari
from mjxppo.policy.demonstrations import Demonstrations, joined, read
from mjxppo.policy.npz import is_exported
from mjxppo.policy.policy import ActFunction, Policy, from_checkpoint
from mjxppo.policy.record import Function, load_function, record
from mjxppo.ppo import cloning, normalize
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.state import Learner, TrainState
from mjxppo.run import conclude, session, start
from mjxppo.run.arrays import named_arrays
from mjxppo.run.checkpoint import CheckpointWriter
from mjxppo.run.directory import CKPT, CLONE, SUMMARY, new_run_dir, open_run_dir
from mjxppo.run.load import find_policy, load_all


class Result(NamedTuple):
    """A policy that was learned from demonstrations."""

    config: Config
    run_dir: Path
    policy: Policy
    summary: dict[str, Any]
    """What ``summary.json`` holds."""


class _Fitted(NamedTuple):
    learner: Learner
    losses: list[float]
    held_out_losses: list[float]


def read_data(path: Path) -> Demonstrations:
    """The demonstrations in a .npz or in a folder of Minari's; raises UserError where there are none."""
    return minari.read_minari(path) if minari.is_minari(path) else read(path)


def controller_of(place: str) -> ActFunction | Function:
    """The controller that a text names: a run, an exported .npz, ``module:function``, or ``file.py:function``.

    Raises UserError where there is none.
    """
    path = Path(place)
    return find_policy(path).policy if path.is_dir() or is_exported(path) else load_function(place)


def clone(
    data: Demonstrations,
    changes: Mapping[str, Any],
    settings: CloningConfig = CloningConfig(),  # noqa: B008  (immutable)
    run_dir: Path | None = None,
    env: Any = None,
) -> Result:
    """Learns a policy from demonstrations, and writes a run with it.

    Args:
        data: the demonstrations.
        changes: plain values on top of the task's shipped configuration, as of ``session.Request``; without ``env``
            the task is that of the data.
        settings: how it learns.
        run_dir: where the run is written; None: a new directory under ``runs/``.
        env: an environment in place of the task that ``changes`` name.

    Raises:
        UserError: a field is unknown or wrong, or the data do not fit the task; nothing has been written then.
    """
    if "env" not in changes and env is None:
        if data.env is None:
            raise UserError("env: the data do not say of which task they are; name it, such as --env hopper")
        changes = {**changes, "env": data.env}
    prepare(changes)
    given = None if env is None else envs.make(env)
    config, _ = session.configuration_of(changes, given)
    _check(config, settings)
    if run_dir is not None and run_dir.is_dir() and any(run_dir.iterdir()):
        raise UserError(f"run_dir: {run_dir} is not empty; give another --run-dir")
    teacher = None if settings.teacher is None else controller_of(settings.teacher)
    program = start.build(config, given)
    data = _fitting(program, data, settings)
    task = given or envs.make(program.env.task.unwrapped)
    xla.enable_compilation_cache()
    state = program.init()
    # Before there is a directory: what a teacher does wrong shows here.
    fitted, facts = _fit_with_teacher(program, state.learner, data, settings, teacher, task)
    path = run_dir or new_run_dir(config)
    with open_run_dir(path, config, resume=False):
        write_json(path / CLONE, facts)
        _save(path, config, replace(state, learner=program.replicate(fitted.learner)))
        summary = {"run_dir": str(path), **{name: facts[name] for name in ("episodes", "steps", "loss")}}
        policies = load_all(path)
        if config.eval.episodes:
            summary |= conclude.evaluate_run(config, path, task, policies)
        if config.eval.video and gym_id_of(config.env) is not None:
            summary |= conclude.film_run(path, policies)
        write_json(path / SUMMARY, summary)
    return Result(config, path, policies[0].policy, summary)


def _check(config: Config, settings: CloningConfig) -> None:
    """Raises UserError where the configuration asks for what cloning does not do."""
    refused = {
        "num_seeds: must be 1, and grid empty,": trains_several(config),
        "init.path: leave it out": config.init.path is not None,
        "distill.teacher: --teacher takes its place": config.distill.teacher is not None,
        "policy.history: must be 1": config.policy.history > 1,
        "policy.privileged: must be none": config.policy.privileged != "none",
    }
    for what in (what for what, is_set in refused.items() if is_set):
        raise UserError(f"{what} to clone; train goes on from the cloned policy with --init.path")
    if settings.dagger_rounds and settings.teacher is None:
        raise UserError("dagger_rounds: needs a teacher to ask; name it with --teacher, such as controller.py:act")
    if settings.teacher is not None and not settings.dagger_rounds:
        raise UserError("teacher: is asked in rounds; say how many with --dagger-rounds, such as 5")


def _fitting(program: TrainingProgram, data: Demonstrations, settings: CloningConfig) -> Demonstrations:
    """The demonstrations to learn from; raises UserError where they do not fit the task, or are too few."""
    env, name = program.env, program.config.env
    if data.obs.shape[1] != env.obs_size:
        raise UserError(
            f"data: obs has {data.obs.shape[1]} numbers a step, and {name} observes {env.obs_size}; take data of this "
            f"task, or name theirs with --env"
        )
    if data.actions.parts != env.actions.parts:
        raise UserError(
            f"data: action is {data.actions}, and {name} takes {env.actions}; take data of this task, or name theirs "
            f"with --env"
        )
    if settings.demonstrations > data.num_episodes:
        raise UserError(f"demonstrations: the data hold {data.num_episodes} episodes, not {settings.demonstrations}")
    return data.first(settings.demonstrations) if settings.demonstrations else data


def _fit_with_teacher(
    program: TrainingProgram,
    learner: Learner,
    data: Demonstrations,
    settings: CloningConfig,
    teacher: ActFunction | Function | None,
    task: envs.Environment,
) -> tuple[_Fitted, dict[str, Any]]:
    """The learner after the demonstrations and all rounds with the teacher, and what ``clone.json`` holds."""
    config = program.config
    fitted = _fit(program, learner, data, settings, 0)
    rounds: list[dict[str, Any]] = []
    for number in range(1, settings.dagger_rounds + 1):
        policy = from_checkpoint(named_arrays({"learner": fitted.learner}), config)
        seed, count = config.seed + (number - 1) * settings.dagger_episodes, settings.dagger_episodes
        asked, returns = record(policy, config, count, seed, teacher=teacher, env=task)
        say(
            f"round {number} of {settings.dagger_rounds}: return {score(returns.mean())} before it, "
            f"{len(asked.obs)} steps"
        )
        rounds.append({"steps": len(asked.obs), "return_mean": float(returns.mean())})
        data = joined([data, asked])
        fitted = _fit(program, learner, data, settings, number)
    return fitted, {
        "settings": asdict(settings),
        "episodes": data.num_episodes,
        "steps": len(data.obs),
        "loss": min(fitted.held_out_losses) if fitted.held_out_losses else fitted.losses[-1],
        "losses": fitted.losses,
        "held_out_losses": fitted.held_out_losses,
        "rounds": rounds,
    }


def _fit(
    program: TrainingProgram, learner: Learner, data: Demonstrations, settings: CloningConfig, round_number: int
) -> _Fitted:
    """The learner with the policy that makes the demonstrations likeliest, and with their observations' moments."""
    config, network = program.config, program.network
    learned, held = _split(data, settings.held_out, config.seed)
    mean, var = learned.obs.mean(0, dtype=np.float64), learned.obs.var(0, dtype=np.float64)
    moments = normalize.RunningMoments(*(jnp.float32(x) for x in (mean, var, len(learned.obs))))

    def pairs_of(part: Demonstrations) -> cloning.Pairs:
        obs = normalize.network_obs(moments, jnp.asarray(part.obs), config.ppo.normalize_obs)
        return cloning.Pairs(obs, cloning.before_squashing(jnp.asarray(part.action), part.actions.continuous))

    pairs, held_pairs = pairs_of(learned), None if held is None else pairs_of(held)
    # On one device: small arrays, and no worlds.
    params = jax.device_get(learner.params)
    epoch = cloning.epochs_of(network, params, config.policy, config.ppo, settings.minibatch_size)
    fit = cloning.begin(params, config.ppo)
    losses, held_losses = [], []
    key = jax.random.fold_in(jax.random.key(config.seed), round_number)
    for number in counted(range(settings.epochs), settings.epochs, "epochs"):
        rate = settings.learning_rate * (1 - number / settings.epochs)
        fit, loss, held_loss = epoch(fit, pairs, held_pairs, jax.random.fold_in(key, number), jnp.float32(rate))
        losses.append(float(loss))
        held_losses += [] if held is None else [float(held_loss)]
    own = replace(learner, params=cloning.params_of(fit, params), obs_moments=moments)
    return _Fitted(own, losses, held_losses)


def _split(data: Demonstrations, share: float, seed: int) -> tuple[Demonstrations, Demonstrations | None]:
    """The episodes to learn from, and those held out, drawn with ``seed``; None where there are none."""
    count = int(share * data.num_episodes)
    if not count:
        return data, None
    chosen = np.random.default_rng(seed).permutation(data.num_episodes)[:count]
    wanted = np.isin(data.episode, chosen)
    return data.only(~wanted), data.only(wanted)


def _save(path: Path, config: Config, state: TrainState) -> None:
    """Writes the state as the run's first checkpoint."""
    writer = CheckpointWriter(path / CKPT, config)
    writer.save(0, state, None)
    writer.close()
