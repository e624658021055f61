"""Training throughput with everything included, its split into parts, and compile times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from mjxppo import envs, members, train
from mjxppo.benchmarks.rounds import UPDATES, Rounds, endless
from mjxppo.config import Config
from mjxppo.machine import describe
from mjxppo.ppo.collective import AXIS
from mjxppo.ppo.schedules import Moment
from mjxppo.ppo.trainer import Trainer
from mjxppo.ppo.update import learn
from mjxppo.randomize.config import RandomizeConfig, Spread

Array = jax.Array

_SCALED: dict[str, Any] = {
    name: Spread("uniform", 0.8, 1.2, each=name not in ("friction", "gravity"))
    for name in ("mass", "inertia", "friction", "strength", "damping", "stiffness", "armature", "gravity")
}
EVERYTHING = RandomizeConfig(
    **_SCALED,
    slope=Spread("uniform", -3.0, 3.0, operation="add"),
    observation_bias=Spread("uniform", -0.01, 0.01, operation="add"),
    observation_noise=0.01,
    max_action_delay=2,
    drop_action=0.05,
    push=0.005,
)
"""Everything that can vary, varies."""


def run(configs: Sequence[Config], repeats: int = 5, skip_updates: int = 0) -> dict[str, Any]:
    """Measures training.

    All programs are compiled first; then they take turns, round after round, so that a change of the machine's load
    hits them alike.

    Args:
        configs: checked configurations; of one with several policies the first is measured.
        repeats: rounds of some updates each; the median counts.
        skip_updates: trained before the first round at least; short episodes at the start of a run cost resets.

    Returns:
        ``{"hardware", "versions", "results"}``; for each configuration ``env_steps_per_s`` of training with
        everything included, ``relative`` to the first configuration (median over rounds), milliseconds of an update
        and of its parts, and ``compile_s``.
    """
    programs = [Rounds(train.build(endless(members.of(config)[0].config))) for config in configs]
    for _ in range(1 + skip_updates // UPDATES):  # the first round is a warm-up
        for program in programs:
            program.seconds()
    seconds = np.array([[program.seconds() for program in programs] for _ in range(repeats)])
    speeds = np.array([program.trainer.env_steps_per_update for program in programs]) / seconds
    relative = np.median(speeds / speeds[:, :1], axis=0)
    rows = [
        _row(program, own, float(share), repeats)
        for program, own, share in zip(programs, seconds.T, relative, strict=True)
    ]
    return {**describe(), "results": rows}


def _row(rounds: Rounds, seconds: np.ndarray, relative: float, repeats: int) -> dict[str, Any]:
    """One configuration's results, from the seconds of each round."""
    trainer, config = rounds.trainer, rounds.trainer.config
    env_steps = trainer.env_steps_per_update * UPDATES
    return {
        "env": config.env,
        "randomized": config.randomize.on,
        "num_envs": config.ppo.num_envs,
        "rollout_length": config.ppo.rollout_length,
        "num_devices": trainer.num_devices,
        "env_steps_per_s": env_steps / float(np.median(seconds)),
        "env_steps_per_s_min": env_steps / seconds.max(),
        "env_steps_per_s_max": env_steps / seconds.min(),
        "relative": relative,
        "update_ms": 1e3 * float(np.median(seconds)) / UPDATES,
        "compile_s": rounds.compile_s,
        **_parts(trainer, rounds.state, repeats),
    }


def _parts(trainer: Trainer, state: Any, repeats: int) -> dict[str, float]:
    """Milliseconds of physics, of the rollout (which contains it), and of learning, each as a program of its own."""
    config = trainer.config.ppo
    split, copied = PartitionSpec(AXIS), PartitionSpec()
    key = jax.random.key(0)
    budget = jnp.int32(trainer.env_steps_per_update)
    group = trainer.group_size

    def physics(env_state: envs.EnvState, key: Array) -> envs.EnvState:
        def one_group(env_state: envs.EnvState) -> envs.EnvState:
            action = jax.random.uniform(key, (group, trainer.env.action_size), minval=-1, maxval=1)
            step = lambda s, _: (trainer.env.step(s, action), None)  # noqa: E731
            return lax.scan(step, env_state, None, length=config.rollout_length)[0]

        return lax.map(one_group, jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), env_state))

    def rollout(state: Any, key: Array, budget: Array) -> Any:
        env_state, batch, last_obs, _ = trainer.collect(state, key, budget)
        return env_state, batch, last_obs

    algorithm = trainer.algorithm(config)
    specs = jax.tree.map(lambda s: s.spec, trainer.sharding)

    def shard(function: Callable[..., Any], **specs: Any) -> Callable[..., Any]:
        if trainer.num_devices == 1:
            return function
        return jax.shard_map(function, mesh=trainer.mesh, check_vma=False, **specs)

    physics_s, _ = _median(
        jax.jit(shard(physics, in_specs=(split, copied), out_specs=split)), repeats, state.env_state, key
    )
    collect = jax.jit(shard(rollout, in_specs=(specs, copied, copied), out_specs=split))
    rollout_s, (_, batch, last_obs) = _median(collect, repeats, state, key, budget)
    moment = Moment(jnp.float32(0.5), jnp.int32(0))
    learning = jax.jit(
        shard(
            lambda learner, batch, last_obs, key: learn(algorithm, learner, batch, last_obs, key, moment)[0],
            in_specs=(copied, split, split, copied),
            out_specs=copied,
        )
    )
    learn_s, _ = _median(learning, repeats, state.learner, batch, last_obs, key)
    return {"physics_ms": 1e3 * physics_s, "rollout_ms": 1e3 * rollout_s, "learn_ms": 1e3 * learn_s}


def _median(program: Callable[..., Any], repeats: int, *arguments: Any) -> tuple[float, Any]:
    """Median seconds of a call, compiled and warm, and its result."""
    result = jax.block_until_ready(program(*arguments))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)), result
