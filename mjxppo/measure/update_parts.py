"""Times of an update's parts: physics, policy, GAE and gradient steps, each measured by a program of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjxppo.envs import EnvState
from mjxppo.physics.worlds import from_blocks, to_blocks
from mjxppo.ppo import packing
from mjxppo.ppo.placement import COPIED, SPLIT
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import TrainState
from mjxppo.ppo.update import estimate_advantages, learn

Array = jax.Array

PARTS = ("physics_ms", "policy_ms", "gae_ms", "gradient_steps_ms")


def measure_parts(program: TrainingProgram, state: TrainState, repeats: int) -> dict[str, float]:
    """Measures the milliseconds of an update's parts.

    Four programs take turns: physics alone, with the actions that the policy took; the rollout; values and advantages;
    and learning. The policy's time is that of the rollout less that of physics, the gradient steps' is that of learning
    less that of values and advantages. ``state`` is a training state of ``program``, which trains one policy. Results
    are medians of ``repeats`` rounds.
    """
    key = jax.random.key(0)
    budget = jnp.int32(program.env_steps_per_update)
    physics, gae, learning = _programs(program)
    _, batch, last_obs = program.rollout_only(state, budget)
    calls = (
        lambda: physics(state.env_state, batch.u),
        lambda: program.rollout_only(state, budget),
        lambda: gae(state.learner, batch, last_obs),
        lambda: learning(state.learner, batch, last_obs, key),
    )
    rounds = np.array([[_milliseconds(call) for call in calls] for _ in range(repeats + 1)])[1:]  # the first compiles
    physics_ms, rollout_ms, gae_ms, learning_ms = rounds.T
    parts = physics_ms, rollout_ms - physics_ms, gae_ms, learning_ms - gae_ms
    return {name: float(np.median(ms)) for name, ms in zip(PARTS, parts, strict=True)}


def _programs(program: TrainingProgram) -> tuple[Callable[..., Any], ...]:
    """Physics, values and advantages, and learning, each compiled on its own."""
    algorithm = program.algorithm(program.config.ppo)
    progress = Progress(jnp.float32(0.5), jnp.int32(0))

    def compiled(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        return jax.jit(program.on_each_device(function, in_specs, out_specs))

    return (
        compiled(lambda env_state, u: replay_physics(program, env_state, u), (SPLIT, SPLIT), SPLIT),
        compiled(lambda *args: estimate_advantages(algorithm, *args), (COPIED, SPLIT, SPLIT), SPLIT),
        compiled(
            lambda learner, batch, last_obs, key: learn(algorithm, learner, batch, last_obs, key, progress)[0],
            (COPIED, SPLIT, SPLIT, COPIED),
            COPIED,
        ),
    )


def replay_physics(program: TrainingProgram, env_state: EnvState, u: Array) -> EnvState:
    """The environment state after a rollout's steps without the policy.

    ``env_state`` is that before the rollout, ``u`` its actions before squashing, [blocks, T, B, action_size].
    """
    steps, at_a_time = u.shape[1], program.layout.worlds_at_a_time
    u = jnp.moveaxis(u, 1, 0).reshape(steps, -1, at_a_time, u.shape[-1])

    def simulate(env_state: EnvState, u: Array) -> EnvState:
        step = lambda state, u: (program.env.step(state, program.network.head.action(u)), None)  # noqa: E731
        # As a rollout does it.
        scan = lax.scan if program.env.branches else partial(packing.scan, lead=1)
        state: EnvState = scan(step, program.env.prepare(env_state), u)[0]
        return state

    portions = to_blocks(env_state, at_a_time), jnp.moveaxis(u, 1, 0)
    return from_blocks(lax.map(lambda portion: simulate(*portion), portions))


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - started)
