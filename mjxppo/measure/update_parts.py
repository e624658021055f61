"""Times of an update's parts: physics, policy, GAE and gradient steps, each measured by a program of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from mjxppo.envs import EnvState
from mjxppo.ppo.collective import AXIS
from mjxppo.ppo.program import Trainer
from mjxppo.ppo.schedules import Moment
from mjxppo.ppo.state import TrainState
from mjxppo.ppo.update import learn, values_and_advantages

Array = jax.Array


def measure_parts(trainer: Trainer, state: TrainState, repeats: int) -> dict[str, float]:
    """Measures the milliseconds of an update's parts.

    Four programs take turns: physics alone, with the actions that the policy took; the rollout; values and advantages;
    and learning. The policy's time is that of the rollout less that of physics, the gradient steps' is that of learning
    less that of values and advantages.

    Args:
        trainer: a trainer of one policy.
        state: one of its training states.
        repeats: number of rounds; results are medians.
    """
    key = jax.random.key(0)
    budget = jnp.int32(trainer.env_steps_per_update)
    collect, physics, gae, learning = _programs(trainer)
    _, batch, last_obs = collect(state, key, budget)
    calls = (
        lambda: physics(state.env_state, batch.u),
        lambda: collect(state, key, budget),
        lambda: gae(state.learner, batch, last_obs),
        lambda: learning(state.learner, batch, last_obs, key),
    )
    rounds = np.array([[_milliseconds(call) for call in calls] for _ in range(repeats + 1)])[1:]  # the first compiles
    physics_ms, rollout_ms, gae_ms, learning_ms = rounds.T
    parts = {
        "physics_ms": physics_ms,
        "policy_ms": rollout_ms - physics_ms,
        "gae_ms": gae_ms,
        "gradient_steps_ms": learning_ms - gae_ms,
    }
    return {name: float(np.median(ms)) for name, ms in parts.items()}


def _programs(trainer: Trainer) -> tuple[Callable[..., Any], ...]:
    """The four programs: rollout, physics, values and advantages, and learning."""
    algorithm = trainer.algorithm(trainer.config.ppo)
    split, copied = PartitionSpec(AXIS), PartitionSpec()
    of_state = jax.tree.map(lambda sharding: sharding.spec, trainer.sharding)
    moment = Moment(jnp.float32(0.5), jnp.int32(0))

    def program(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        if trainer.num_devices > 1:
            function = jax.shard_map(
                function, mesh=trainer.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
            )
        return jax.jit(function)

    return (
        program(lambda *args: trainer.collect(*args)[:3], (of_state, copied, copied), split),
        program(lambda env_state, u: replay_physics(trainer, env_state, u), (split, split), split),
        program(lambda *args: values_and_advantages(algorithm, *args), (copied, split, split), split),
        program(
            lambda learner, batch, last_obs, key: learn(algorithm, learner, batch, last_obs, key, moment)[0],
            (copied, split, split, copied),
            copied,
        ),
    )


def replay_physics(trainer: Trainer, env_state: EnvState, u: Array) -> EnvState:
    """The environment state after a rollout's steps without the policy.

    Args:
        trainer: the trainer of the rollout.
        env_state: the environment state before the rollout.
        u: the batch's actions before squashing, [blocks, T, B, action_size].
    """
    steps, group = u.shape[1], trainer.group_size
    u = jnp.moveaxis(u, 1, 0).reshape(steps, -1, group, u.shape[-1])
    grouped = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), env_state)

    def one_group(args: tuple[EnvState, Array]) -> EnvState:
        env_state, u = args
        step = lambda state, u: (trainer.env.step(state, jnp.tanh(u)), None)  # noqa: E731
        return lax.scan(step, trainer.env.prepare(env_state), u)[0]

    final = lax.map(one_group, (grouped, jnp.moveaxis(u, 1, 0)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), final)


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - started)
