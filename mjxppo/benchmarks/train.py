"""Training throughput with everything included, its split into parts, and compile times."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from mjxppo import envs, members, train
from mjxppo.config import Config
from mjxppo.machine import describe
from mjxppo.ppo.collective import AXIS, Devices
from mjxppo.ppo.trainer import Trainer
from mjxppo.ppo.update import Algorithm, learn

Array = jax.Array

_UPDATES_PER_ROUND = 4


def run(configs: Sequence[Config], repeats: int = 5) -> dict[str, Any]:
    """Measures training.

    Args:
        configs: checked configurations; of one with several policies the first is measured.
        repeats: rounds of some updates each; the median counts.

    Returns:
        ``{"hardware", "versions", "results"}``; for each configuration ``env_steps_per_s`` of training with
        everything included, milliseconds of an update and of its parts, and ``compile_s``.
    """
    return {**describe(), "results": [_run_one(config, repeats) for config in configs]}


def _run_one(config: Config, repeats: int) -> dict[str, Any]:
    config = members.of(config)[0].config
    log = dataclasses.replace(config.log, every_updates=_UPDATES_PER_ROUND)
    trainer = train.build(dataclasses.replace(config, log=log, total_env_steps=10**12))
    state = trainer.init()
    total = trainer.budget(10**12)
    started = time.perf_counter()
    program = trainer.train_chunk.lower(state, total).compile()  # type: ignore[attr-defined]
    compile_s = time.perf_counter() - started
    seconds = []
    for i in range(repeats + 1):
        started = time.perf_counter()
        state, metrics = program(state, total)
        jax.block_until_ready(metrics)
        if i:  # the first round is a warm-up
            seconds.append(time.perf_counter() - started)
    update_s = float(np.median(seconds)) / _UPDATES_PER_ROUND
    parts = _parts(trainer, state, repeats)
    return {
        "env": config.env,
        "num_envs": config.ppo.num_envs,
        "rollout_length": config.ppo.rollout_length,
        "num_devices": trainer.num_devices,
        "env_steps_per_s": trainer.env_steps_per_update / update_s,
        "env_steps_per_s_min": trainer.env_steps_per_update * _UPDATES_PER_ROUND / max(seconds),
        "env_steps_per_s_max": trainer.env_steps_per_update * _UPDATES_PER_ROUND / min(seconds),
        "update_ms": 1e3 * update_s,
        "compile_s": compile_s,
        **parts,
    }


def _parts(trainer: Trainer, state: Any, repeats: int) -> dict[str, float]:
    """Milliseconds of physics, of the rollout (which contains it), and of learning, each as a program of its own."""
    config = trainer.config.ppo
    split, copied = PartitionSpec(AXIS), PartitionSpec()
    key = jax.random.key(0)
    budget = jnp.int32(trainer.env_steps_per_update)
    group = config.block_size if jax.default_backend() == "cpu" else config.num_envs // trainer.num_devices

    def physics(env_state: envs.EnvState, key: Array) -> envs.EnvState:
        def one_group(env_state: envs.EnvState) -> envs.EnvState:
            action = jax.random.uniform(key, (group, trainer.env.action_size), minval=-1, maxval=1)
            step = lambda s, _: (trainer.env.step(s, action), None)  # noqa: E731
            return lax.scan(step, env_state, None, length=config.rollout_length)[0]

        return lax.map(one_group, jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), env_state))

    def rollout(state: Any, key: Array, budget: Array) -> Any:
        env_state, batch, last_obs, _ = trainer.collect(state, key, budget)
        return env_state, batch, last_obs

    algorithm = Algorithm(trainer.network, trainer.config.policy, config, Devices(trainer.num_devices))
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
    learning = jax.jit(
        shard(
            lambda learner, batch, last_obs, key: learn(algorithm, learner, batch, last_obs, key, jnp.float32(0.5))[0],
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
