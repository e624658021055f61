"""The rollout of SHAC, and the derivative of its objective by the policy's outputs in every step.

The derivative by the parameters is the sum over all steps of (derivative by the outputs) times (derivative of the
outputs by the parameters, for an observation that stays as it is). The first factor holds everything that goes through
the physics, and also how an action changes later observations and, through the policy, later actions. It is known for
each world, so that a world in which it is not finite can be left out of the sum, which ``step`` makes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.config.schema import PpoConfig
from mjxppo.envs import Environment, EnvState
from mjxppo.envs.batch import is_sound, select
from mjxppo.ppo.heads import Outputs
from mjxppo.ppo.networks import apply_policy, apply_value
from mjxppo.ppo.normalize import EPSILON, RunningMoments, network_obs
from mjxppo.ppo.rollout import Batch, BehaviorPolicy, Decision, RolloutStats, draw_noise, experience, record_step
from mjxppo.ppo.shac.horizon import HorizonDerivative, objective_of_steps

Array = jax.Array
Collected = tuple[EnvState, Batch, Array, RolloutStats]


def differentiated_rollout(
    env: Environment,
    policy: BehaviorPolicy,
    state: EnvState,
    indices: Array,
    key: Array,
    budget: Array,
    *,
    config: PpoConfig,
    return_moments: RunningMoments,
) -> Collected:
    """``rollout.rollout``, with ``Batch.derivative``; the arguments and results are the same.

    ``policy.params`` hold the target critic in the critic's place; ``return_moments`` are the units of its values.
    Memory: the scan keeps the worlds before each step, and computes the step again when the derivative goes through it.
    """
    network, params = policy.network, policy.params

    def in_reward_units(value: Array) -> Array:
        return value * jnp.sqrt(return_moments.var + EPSILON) + return_moments.mean

    def objective(change: Outputs) -> tuple[Array, tuple[Collected, Array]]:
        act = partial(_act, env, policy, config=config, indices=indices, key=key, budget=budget)
        # Within a scan nothing is computed twice by mistake, and the barriers against it only cost time.
        checkpointed = jax.checkpoint(act, prevent_cse=False)
        worlds, (batch, stats) = lax.scan(checkpointed, env.prepare(state), (times, change))
        last_obs = network_obs(policy.obs_moments, worlds.obs, config.normalize_obs)
        last_value = in_reward_units(apply_value(network, params, last_obs))
        ends = batch.terminated, batch.truncated, in_reward_units(batch.final_value)
        added = objective_of_steps(batch.reward, *ends, last_value, taken, config.gamma)
        return added.sum(), ((worlds, batch, last_obs, stats), added)

    times = jnp.arange(config.rollout_length)
    taken = times[:, None] * config.num_envs + indices < budget
    shapes = jax.eval_shape(lambda obs: apply_policy(network, params, obs), state.obs)
    none = tuple(jnp.zeros((*times.shape, *x.shape), x.dtype) for x in shapes)
    by_outputs, ((worlds, batch, last_obs, stats), added) = jax.grad(objective, has_aux=True)(none)
    derivative = _without_broken(by_outputs, added, taken, batch.valid)
    return worlds, replace(batch, derivative=derivative), last_obs, jax.tree.map(lambda x: x.sum(0), stats)


def _act(
    env: Environment,
    policy: BehaviorPolicy,
    state: EnvState,
    step: tuple[Array, Outputs],
    *,
    config: PpoConfig,
    indices: Array,
    key: Array,
    budget: Array,
) -> tuple[EnvState, tuple[Batch, RolloutStats]]:
    """One time step in B worlds: its number [] and zeros that are added to the policy's outputs, each [B, any]."""
    t, change = step
    head = policy.network.head
    noise = draw_noise(policy, jax.random.fold_in(key, t), indices)
    outputs = apply_policy(
        policy.network, policy.params, network_obs(policy.obs_moments, state.obs, config.normalize_obs)
    )
    u = head.sample(tuple(x + dx for x, dx in zip(outputs, change, strict=True)), noise.own)
    active = t * config.num_envs + indices < budget
    advanced = env.advance(state, head.action(u))
    record = record_step(state, Decision(u, head.log_prob(u, outputs), None), advanced, active)
    following = select(active, _next_state(env, advanced), state)
    return following, experience(policy, record, config, env.branches)


def _next_state(env: Environment, advanced: EnvState) -> EnvState:
    """The worlds to step next, from those that ``Environment.advance`` left.

    A derivative goes back through worlds and observations of episodes that go on, and through nothing else: a new
    episode does not depend on the one before.
    """
    fresh: EnvState = env.reset_done(_constant(advanced))
    worlds, obs = select(advanced.done, (fresh.worlds, fresh.obs), (advanced.worlds, advanced.obs))
    return replace(fresh, worlds=worlds, obs=obs)


def _constant(tree: Any) -> Any:
    """The same numbers, through which no derivative goes."""
    return jax.tree.map(lambda x: lax.stop_gradient(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _without_broken(by_outputs: Outputs, added: Array, taken: Array, valid: Array) -> HorizonDerivative:
    """The derivative without the worlds that broke in the horizon, or of which it is NaN or beyond ``MAX_VALUE``.

    ``added`` is what each step adds to the objective; all arrays are [T, B, ...].
    """
    sound = jnp.stack([is_sound(x).all((0, -1)) for x in by_outputs]).all(0)
    good = sound & (valid | ~taken).all(0)
    in_use = taken[0]
    return HorizonDerivative(
        by_outputs=tuple(jnp.where(good[:, None], x, 0) for x in by_outputs),
        objective=jnp.where(good & taken, added, 0),
        kept=good & taken,
        left_out=jnp.zeros_like(taken).at[0].set(in_use & ~good),
    )
