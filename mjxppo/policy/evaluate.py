"""Evaluation of the deterministic policy: in Gymnasium's C MuJoCo, or in this package's own physics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mjxppo import envs, xla
from mjxppo.config.schema import Config, PhysicsConfig
from mjxppo.config.values import whole
from mjxppo.envs import Environment
from mjxppo.envs.actions import first_of
from mjxppo.envs.build import environment
from mjxppo.envs.foreign.adapted import change_model, make_one
from mjxppo.envs.foreign.results import MASK
from mjxppo.envs.host import main_has_a_guard
from mjxppo.envs.registry import TASKS, canonical_name, gym_id_of
from mjxppo.envs.robot_task import RobotTask
from mjxppo.errors import UserError
from mjxppo.policy.engine import Engine
from mjxppo.policy.policy import ActFunction, Policy, begin_episode
from mjxppo.policy.processes import process_pool


class Episodes(NamedTuple):
    """Finished episodes, arrays [episodes]."""

    returns: np.ndarray
    lengths: np.ndarray
    broken: np.ndarray
    """Whether the world broke, see ``EnvState.nonfinite``, bool; the return is then not one."""


def summarize(episodes: Episodes, engine: str, env: str, seed: int) -> dict[str, Any]:
    """Statistics of the episodes, ready for JSON; ``engine``, ``env`` and the first episode's ``seed`` are recorded.

    Episodes whose world broke are left out, and their seeds are named. Raises UserError where all did.
    """
    sound = np.flatnonzero(~episodes.broken)
    if not sound.size:
        raise UserError(f"env: all {len(episodes.broken)} worlds of {env} broke; there is no return")
    returns, lengths = episodes.returns[sound], episodes.lengths[sound]
    return {
        "env": env,
        "engine": engine,
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "length_mean": float(lengths.mean()),
        "lengths": [int(length) for length in lengths],
        "returns": [float(value) for value in returns],
        "seeds": [seed + int(i) for i in sound],
        "broken_seeds": [seed + int(i) for i in np.flatnonzero(episodes.broken)],
    }


def evaluate(
    policy: ActFunction,
    config: Config,
    engine: Engine,
    num_episodes: int,
    seed: int,
    changes: Mapping[str, float] | None = None,
    as_trained: bool = False,
    env: Environment | None = None,
) -> dict[str, Any]:
    """Runs whole episodes of the deterministic policy.

    Args:
        policy: actions [N, action_size] for observations [N, obs_size], see ``ActFunction``.
        config: the run's configuration; its task and task options are used.
        engine: "gymnasium" is Gymnasium's own environment on C MuJoCo, float64, which shares no code with the
            training; "own" is the environment that the run was trained in; the others are this package's physics.
        num_episodes: episode i is reset with seed ``seed + i``.
        seed: the first episode's seed.
        changes: factors on quantities of the task's model, such as ``{"mass": 1.2}``
            (``randomize.changes.QUANTITIES``); only with "gymnasium".
        as_trained: use the worlds that the run trained in, randomised over the whole ranges and with privileged
            observations, instead of the task's own model; not with "gymnasium".
        env: an environment in place of the task that ``config`` names; not with "gymnasium".

    Returns:
        Mean, std, min and max of the returns, lengths and seeds, ready for JSON.

    Raises:
        UserError: the task has no counterpart in Gymnasium, or the engine cannot simulate it.
    """
    num_episodes, seed = whole("episodes", num_episodes), whole("seed", seed)
    if num_episodes < 1:
        raise UserError(f"episodes: must be at least 1, not {num_episodes}")
    if env is None:
        canonical_name(config.env)
    if changes:
        check_changeable(config, engine)
    if engine not in ("gymnasium", "own") and config.env not in TASKS:
        raise UserError(f"engine: {config.env} is not simulated by {engine}; use --engine own")
    if engine == "gymnasium":
        if as_trained:
            raise UserError("as_trained: needs --engine own, planar, spatial or mjx; Gymnasium's is the task itself")
        results = gymnasium_episodes(policy, config, num_episodes, seed, changes or {})
        return summarize(results, engine, config.env, seed)
    backend = config.physics.backend if engine == "own" else engine
    if as_trained:
        assert isinstance(policy, Policy)
        # There the observations are the network's inputs, and then what only the critic sees.
        act = lambda obs, mask=None: policy.of_inputs(obs[:, : policy.inputs], mask)  # noqa: E731
        worlds = worlds_of_training(replace(config, physics=PhysicsConfig(backend)), env)
        return evaluate_in(worlds, act, num_episodes, seed) | {"as_trained": True}
    env = env or envs.make(config.env, backend=backend, **config.env_options)
    return evaluate_in(env, policy, num_episodes, seed)


def check_changeable(config: Config, engine: Engine) -> None:
    """Raises UserError where the model of a run's task cannot be changed in an evaluation by ``engine``."""
    if engine != "gymnasium" or gym_id_of(config.env) is None:
        own = config.env if gym_id_of(config.env) is None else engine
        raise UserError(f"perturb: changes robots in Gymnasium's C MuJoCo, which {own} does not use; leave it out")


def worlds_of_training(config: Config, env: Environment | None = None) -> Environment:
    """The worlds that a configuration trains in, randomised over the whole ranges; ``env`` replaces its task."""
    # New worlds begin a curriculum with the task's own model; the policy is for the whole ranges.
    return environment(replace(config, randomize=replace(config.randomize, curriculum_return=None)), env)


def evaluate_in(env: Environment, policy: ActFunction, num_episodes: int, seed: int) -> dict[str, Any]:
    """``evaluate`` in a given environment; ``engine`` in the result is its backend, or "own" where it has none."""
    num_episodes, seed = whole("episodes", num_episodes), whole("seed", seed)
    engine = env.task.physics.name if isinstance(env.task, RobotTask) else "own"
    return summarize(device_episodes(policy, env, num_episodes, seed), engine, env.name, seed)


def evaluate_each(
    policies: Sequence[tuple[ActFunction, Config]],
    engine: Engine,
    num_episodes: int,
    seed: int,
    as_trained: bool = False,
    env: Environment | None = None,
) -> list[dict[str, Any]]:
    """``evaluate`` for several policies; with "gymnasium" in several processes."""
    jobs = [(policy, config, engine, num_episodes, seed, None, as_trained) for policy, config in policies]
    if engine != "gymnasium":
        return [evaluate(*job, env) for job in jobs]
    return evaluate_in_processes(jobs)


def evaluate_in_processes(jobs: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """``evaluate`` with the arguments of each job, in one process for each usable core."""
    # A script without a guard would be run again by each process.
    workers = min(len(jobs), xla.usable_cores()) if main_has_a_guard() else 1
    if workers == 1:
        return [evaluate(*job) for job in jobs]
    with process_pool(workers) as pool:
        return list(pool.map(evaluate, *zip(*jobs, strict=True)))


def make_gymnasium_env(config: Config, **kwargs: Any) -> Any:
    """Gymnasium's environment for the run's task, with its options; raises UserError where there is none."""
    gym_id = gym_id_of(config.env)
    if gym_id is None:
        raise UserError(f"engine: Gymnasium has no counterpart of {config.env}; use --engine own")
    return make_one(gym_id, config.env_options, **kwargs)


def gymnasium_episodes(
    policy: ActFunction, config: Config, num_episodes: int, seed: int, changes: Mapping[str, float]
) -> Episodes:
    """Runs one episode after the other, so that a seed's return does not depend on the number of episodes.

    A matrix product's rounding may depend on its batch size, and HalfCheetah amplifies rounding.
    """
    env = make_gymnasium_env(config)
    change_model(env, changes, "perturb")
    returns, lengths, broken = np.zeros(num_episodes), np.zeros(num_episodes, int), np.zeros(num_episodes, bool)
    for i in range(num_episodes):
        obs, info = env.reset(seed=seed + i)
        act, done = begin_episode(policy), False
        while not done:
            action = first_of(act(obs[None], **_masked(info[MASK][None] if MASK in info else None)))
            if isinstance(action, np.ndarray):
                _check_action(action[None], obs[None])
            obs, reward, terminated, truncated, info = env.step(action)
            returns[i] += reward
            lengths[i] += 1
            done = terminated or truncated
        broken[i] = not np.isfinite(returns[i]) or _was_reset_by_mujoco(env)
    env.close()
    return Episodes(returns, lengths, broken)


def _check_action(action: np.ndarray, obs: np.ndarray) -> None:
    """Raises UserError where an action [N, action_size] of a finite observation [N, obs_size] is not finite."""
    if not np.isfinite(action).all() and (~np.isfinite(action).all(1) & np.isfinite(obs).all(1)).any():
        raise UserError("policy: its action for a finite observation is not finite")


def _masked(mask: Any) -> dict[str, Any]:
    """The argument with which a policy gets the mask of its actions, if there is one."""
    return {} if mask is None else {"mask": mask}


def _was_reset_by_mujoco(env: Any) -> bool:
    """Whether C MuJoCo found numbers that are none, or too large, since the last reset; it then resets by itself."""
    data = getattr(env.unwrapped, "data", None)
    if not isinstance(data, mujoco.MjData):
        return False
    kinds = mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC
    return any(data.warning[kind].number > 0 for kind in kinds)


def device_episodes(policy: ActFunction, env: Environment, num_episodes: int, seed: int) -> Episodes:
    """Runs all episodes as one batch on the device; the policy acts on the host between two steps."""
    keys = jax.vmap(lambda i: jax.random.key(seed + i))(jnp.arange(num_episodes, dtype=jnp.uint32))
    state = jax.jit(env.reset)(keys)
    step = jax.jit(env.step)
    returns, lengths = np.zeros(num_episodes), np.zeros(num_episodes, int)
    running, broken = np.ones(num_episodes, bool), np.zeros(num_episodes, bool)
    act, mask_of = begin_episode(policy, vectors=True), jax.jit(env.action_mask)
    while running.any():
        obs, mask = np.asarray(state.obs), mask_of(state)
        action = act(obs, **_masked(None if mask is None else np.asarray(mask)))
        _check_action(action[running & ~broken], obs[running & ~broken])
        state = step(state, action)
        returns += np.where(running, np.asarray(state.reward, np.float64), 0)
        lengths += running
        broken |= running & np.asarray(state.nonfinite)
        running &= ~np.asarray(state.done)
    return Episodes(returns, lengths, broken)
