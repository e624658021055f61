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
from mjxppo.ppo.collective import AXIS
from mjxppo.ppo.schedules import Moment
from mjxppo.ppo.trainer import Trainer
from mjxppo.ppo.update import learn
from mjxppo.randomize.config import RandomizeConfig, Spread

Array = jax.Array

_UPDATES_PER_ROUND = 4


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
    trainings = [_Training(config) for config in configs]
    for _ in range(1 + skip_updates // _UPDATES_PER_ROUND):  # the first round is a warm-up
        for training in trainings:
            training.round()
    seconds = np.array([[training.round() for training in trainings] for _ in range(repeats)])
    speeds = np.array([training.trainer.env_steps_per_update for training in trainings]) / seconds
    relative = np.median(speeds / speeds[:, :1], axis=0)
    rows = [
        training.row(own, float(share), repeats)
        for training, own, share in zip(trainings, seconds.T, relative, strict=True)
    ]
    return {**describe(), "results": rows}


class _Training:
    """One configuration's compiled program and its state."""

    def __init__(self, config: Config):
        config = members.of(config)[0].config
        log = dataclasses.replace(config.log, every_updates=_UPDATES_PER_ROUND)
        self.config = config
        self.trainer = train.build(dataclasses.replace(config, log=log, total_env_steps=10**12))
        self.state = self.trainer.init()
        self.total = self.trainer.budget(10**12)
        started = time.perf_counter()
        self.program = self.trainer.train_chunk.lower(self.state, self.total).compile()  # type: ignore[attr-defined]
        self.compile_s = time.perf_counter() - started

    def round(self) -> float:
        """Seconds that some updates take."""
        started = time.perf_counter()
        self.state, metrics = self.program(self.state, self.total)
        jax.block_until_ready(metrics)
        return time.perf_counter() - started

    def row(self, seconds: np.ndarray, relative: float, repeats: int) -> dict[str, Any]:
        """The results, from the seconds of each round."""
        env_steps = self.trainer.env_steps_per_update * _UPDATES_PER_ROUND
        return {
            "env": self.config.env,
            "randomized": self.config.randomize.on,
            "num_envs": self.config.ppo.num_envs,
            "rollout_length": self.config.ppo.rollout_length,
            "num_devices": self.trainer.num_devices,
            "env_steps_per_s": env_steps / float(np.median(seconds)),
            "env_steps_per_s_min": env_steps / seconds.max(),
            "env_steps_per_s_max": env_steps / seconds.min(),
            "relative": relative,
            "update_ms": 1e3 * float(np.median(seconds)) / _UPDATES_PER_ROUND,
            "compile_s": self.compile_s,
            **_parts(self.trainer, self.state, repeats),
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
