"""Evaluating the deterministic policy: in Gymnasium's C MuJoCo, or in this package's own physics."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mjxppo import xla
from mjxppo.config.schema import Config, PhysicsConfig
from mjxppo.errors import UserError
from mjxppo.policy.policy import Policy, begin

if TYPE_CHECKING:
    from mjxppo.envs import Environment

Engine = Literal["gymnasium", "own", "planar", "mjx", "mjx-warp"]
"""What an evaluation can be asked to run in."""

ActFunction = Callable[[np.ndarray], np.ndarray]


class Episodes(NamedTuple):
    """Results of some episodes, each [episodes]."""

    returns: np.ndarray
    lengths: np.ndarray


def physics_of(engine: str) -> str:
    """For a person, what an evaluation ran in: its ``engine`` is gymnasium, one of our backends, or own."""
    if engine == "gymnasium":
        return "Gymnasium's C MuJoCo"
    return "the environment's own physics" if engine == "own" else f"{engine} physics"


def summarize(episodes: Episodes, engine: str, env: str, seed: int) -> dict[str, Any]:
    """The evaluation as JSON holds it."""
    returns, lengths = episodes
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
        "seeds": [seed + i for i in range(len(returns))],
    }


def evaluate(
    policy: ActFunction,
    config: Config,
    engine: Engine,
    num_episodes: int,
    seed: int,
    changes: Mapping[str, float] | None = None,
    as_trained: bool = False,
) -> dict[str, Any]:
    """Runs whole episodes of the deterministic policy.

    Args:
        policy: actions [N, action_size] for observations [N, obs_size].
        config: the run's configuration; says the task and its options.
        engine: "gymnasium" is Gymnasium's own environment on C MuJoCo, float64, which shares no code with the
            training; "own" what the run was trained in; the others are this package's physics.
        num_episodes: episode i is reset with seed ``seed + i``.
        seed: the first episode's seed.
        changes: what differs from the task's model, such as ``{"mass": 1.2}`` (``randomize.changes.QUANTITIES``); only
            in "gymnasium".
        as_trained: in the worlds that the run trained in, randomised and with privileged observations, instead of
            on the task's own model; not in "gymnasium".

    Returns:
        Mean, std, min and max of the returns, lengths and seeds, ready for JSON.

    Raises:
        UserError: the task has no counterpart in Gymnasium, or the engine cannot simulate it.
    """
    if num_episodes < 1:
        raise UserError(f"episodes: must be at least 1, not {num_episodes}")
    if engine == "gymnasium":
        if as_trained:
            raise UserError("as_trained: needs --engine own, planar or mjx; Gymnasium's is the task itself")
        results = _gymnasium_episodes(policy, config, num_episodes, seed, changes or {})
        return summarize(results, engine, config.env, seed)
    from mjxppo import envs

    backend = config.physics.backend if engine == "own" else engine
    if as_trained:
        return _evaluate_as_trained(policy, replace(config, physics=PhysicsConfig(backend)), num_episodes, seed)
    env = envs.make(config.env, backend=backend, **config.env_options)
    return evaluate_in(env, policy, num_episodes, seed)


def _evaluate_as_trained(policy: ActFunction, config: Config, num_episodes: int, seed: int) -> dict[str, Any]:
    """There observations are what the network sees, with its past, and behind it what is for the critic."""
    from mjxppo.envs.build import environment

    assert isinstance(policy, Policy)
    result = evaluate_in(environment(config), lambda obs: policy.of_inputs(obs[:, : policy.inputs]), num_episodes, seed)
    return result | {"as_trained": True}


def evaluate_in(env: Environment, policy: ActFunction, num_episodes: int, seed: int) -> dict[str, Any]:
    """``evaluate`` in an environment of ours; ``engine`` then names its physics, or is "own" if that is not ours."""
    from mjxppo.envs.locomotion import Locomotion

    engine = env.task.physics.name if isinstance(env.task, Locomotion) else "own"
    return summarize(device_episodes(policy, env, num_episodes, seed), engine, env.name, seed)


def evaluate_each(
    policies: Sequence[tuple[ActFunction, Config]],
    engine: Engine,
    num_episodes: int,
    seed: int,
    as_trained: bool = False,
) -> list[dict[str, Any]]:
    """``evaluate`` for several policies, in several processes where they run on the host."""
    jobs = [(policy, config, engine, num_episodes, seed, None, as_trained) for policy, config in policies]
    if engine != "gymnasium":
        return [evaluate(*job) for job in jobs]
    return in_processes(jobs)


def in_processes(jobs: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """``evaluate`` for the arguments of each job, in as many processes as there are usable cores."""
    workers = min(len(jobs), xla.usable_cores())
    if workers == 1:
        return [evaluate(*job) for job in jobs]
    # Forking a process in which JAX runs threads may hang it.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(evaluate, *zip(*jobs, strict=True)))


def make_gymnasium_env(config: Config, **kwargs: Any) -> Any:
    """Gymnasium's environment for the run's task, with the run's task options.

    Raises:
        UserError: the task is none of Gymnasium's.
    """
    from mjxppo.envs import registry
    from mjxppo.envs.foreign.gymnasium import make_one

    gym_id = registry.gym_id_of(config.env)
    if gym_id is None:
        raise UserError(f"engine: Gymnasium has no counterpart of {config.env}; use --engine own")
    return make_one(gym_id, config.env_options, **kwargs)


def _gymnasium_episodes(
    policy: ActFunction, config: Config, num_episodes: int, seed: int, changes: Mapping[str, float]
) -> Episodes:
    """One episode after the other, so that a seed's return does not depend on what is evaluated beside it.

    A matrix product's rounding may depend on its batch size, and HalfCheetah amplifies rounding.
    """
    env = make_gymnasium_env(config)
    if changes:
        from mjxppo.envs.randomize.changes import changed_fields
        from mjxppo.physics import modify_model

        model = env.unwrapped.model
        modify_model(model, changed_fields(model, changes))
    returns, lengths = np.zeros(num_episodes), np.zeros(num_episodes, int)
    for i in range(num_episodes):
        obs, _ = env.reset(seed=seed + i)
        act, done = begin(policy), False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(act(obs[None])[0])
            returns[i] += reward
            lengths[i] += 1
            done = terminated or truncated
    env.close()
    return Episodes(returns, lengths)


def device_episodes(policy: ActFunction, env: Environment, num_episodes: int, seed: int) -> Episodes:
    """Runs all episodes as one batch; the policy acts on the host between steps."""
    import jax
    import jax.numpy as jnp

    keys = jax.vmap(lambda i: jax.random.key(seed + i))(jnp.arange(num_episodes, dtype=jnp.uint32))
    state = jax.jit(env.reset)(keys)
    step = jax.jit(env.step)
    returns, lengths = np.zeros(num_episodes), np.zeros(num_episodes, int)
    running = np.ones(num_episodes, bool)
    act = begin(policy)
    while running.any():
        state = step(state, act(np.asarray(state.obs)))
        returns += np.where(running, np.asarray(state.reward, np.float64), 0)
        lengths += running
        running &= ~np.asarray(state.done)
    return Episodes(returns, lengths)
