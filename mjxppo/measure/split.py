"""Where an update's time goes: physics, policy, GAE and gradient steps, measured by programs of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjxppo.envs import EnvState
from mjxppo.ppo.placement import COPIED, SPLIT
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import TrainState
from mjxppo.ppo.update import learn, values_and_advantages

Array = jax.Array


def measure(program: TrainingProgram, state: TrainState, repeats: int) -> dict[str, float]:
    """Milliseconds of an update's parts.

    Four programs take turns: physics alone, with the actions that the policy took; the rollout, whose time beyond
    that is the policy's; values and advantages; and learning, whose time beyond that is the gradient steps'.

    Args:
        program: of one policy.
        state: a training state of this program.
        repeats: rounds; the median counts.
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
    parts = {
        "physics_ms": physics_ms,
        "policy_ms": rollout_ms - physics_ms,
        "gae_ms": gae_ms,
        "gradient_steps_ms": learning_ms - gae_ms,
    }
    return {name: float(np.median(ms)) for name, ms in parts.items()}


def _programs(program: TrainingProgram) -> tuple[Callable[..., Any], ...]:
    """Physics, values and advantages, and learning, each compiled on its own."""
    algorithm = program.algorithm(program.config.ppo)
    progress = Progress(jnp.float32(0.5), jnp.int32(0))

    def compiled(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        return jax.jit(program.on_each_device(function, in_specs, out_specs))

    return (
        compiled(lambda env_state, u: act_again(program, env_state, u), (SPLIT, SPLIT), SPLIT),
        compiled(lambda *args: values_and_advantages(algorithm, *args), (COPIED, SPLIT, SPLIT), SPLIT),
        compiled(
            lambda learner, batch, last_obs, key: learn(algorithm, learner, batch, last_obs, key, progress)[0],
            (COPIED, SPLIT, SPLIT, COPIED),
            COPIED,
        ),
    )


def act_again(program: TrainingProgram, env_state: EnvState, u: Array) -> EnvState:
    """The rollout's environment steps without the policy; ``u`` is the batch's, [blocks, T, B, action_size]."""
    steps, at_a_time = u.shape[1], program.layout.worlds_at_a_time
    u = jnp.moveaxis(u, 1, 0).reshape(steps, -1, at_a_time, u.shape[-1])
    portions = jax.tree.map(lambda x: x.reshape(-1, at_a_time, *x.shape[1:]), env_state)

    def simulate(portion: tuple[EnvState, Array]) -> EnvState:
        env_state, u = portion
        step = lambda state, u: (program.env.step(state, jnp.tanh(u)), None)  # noqa: E731
        return lax.scan(step, program.env.renew(env_state), u)[0]

    went = lax.map(simulate, (portions, jnp.moveaxis(u, 1, 0)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), went)


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - started)
