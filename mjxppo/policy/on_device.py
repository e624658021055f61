"""Whole episodes of the deterministic policy as one device program, compiled once for any number of policies.

``evaluate.device_episodes`` calls the device at each step, which on an accelerator that trains at the same time would
wait for the training program each time.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.envs import Environment, EnvState
from mjxppo.envs.task import NO_LIMIT
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import Episodes
from mjxppo.policy.policy import Policy
from mjxppo.policy.stablehlo import Arrays, likeliest

Array = jax.Array


class _Running(NamedTuple):
    """Episodes that are under way, arrays [episodes, ...]."""

    state: EnvState
    past: Array
    """What a policy with a history remembers, [episodes, inputs - obs_size]."""
    returns: Array
    lengths: Array
    active: Array
    broken: Array


class DeviceEpisodes:
    """A function that runs episodes on the device; the policies that it is called with differ in their arrays only."""

    def __init__(self, env: Environment, num_episodes: int, seed: int, as_trained: bool = False):
        """Episode i is reset with seed ``seed + i``. ``as_trained``: observations are the networks' inputs.

        Raises UserError where episodes may never end.
        """
        if env.max_episode_steps >= NO_LIMIT:
            raise UserError(f"eval.every_env_steps: episodes of {env.name} have no time limit; leave it out")
        self._env, self._num_episodes, self._seed, self._as_trained = env, num_episodes, seed, as_trained
        self._template: Policy | None = None

    def __call__(self, policy: Policy) -> Episodes:
        """Runs the episodes of ``policy``."""
        self._template = self._template or policy
        done = jax.device_get(self._program(Arrays.of(policy)))
        return Episodes(*(np.asarray(part) for part in done))

    @cached_property
    def _program(self) -> Any:
        """The program of a policy's arrays; it returns the fields of ``Episodes``."""
        assert self._template is not None
        policy = self._template

        def episodes(arrays: Arrays) -> tuple[Array, Array, Array]:
            count = self._num_episodes
            state = self._env.reset(jax.vmap(jax.random.key)(self._seed + jnp.arange(count, dtype=jnp.uint32)))
            zeros, yes = jnp.zeros(count), jnp.ones(count, bool)
            start = _Running(state, self._no_past(policy, state.obs), zeros, zeros.astype(int), yes, ~yes)
            end = jax.lax.while_loop(lambda now: now.active.any(), lambda now: self._step(policy, arrays, now), start)
            return end.returns, end.lengths, end.broken

        return jax.jit(episodes)

    def _no_past(self, policy: Policy, obs: Array) -> Array:
        """What a policy remembers at the start of an episode: its first observation, and actions of 0."""
        earlier = 0 if self._as_trained else policy.history - 1
        no_action = jnp.zeros((obs.shape[0], policy.action_size), obs.dtype)
        return jnp.concatenate([no_action, obs] * earlier, axis=-1) if earlier else jnp.zeros((obs.shape[0], 0))

    def _step(self, policy: Policy, arrays: Arrays, now: _Running) -> _Running:
        inputs = jnp.concatenate([now.state.obs, now.past], axis=-1)[:, : policy.inputs]
        action, _ = likeliest(policy, arrays, inputs, self._env.action_mask(now.state))
        past = jnp.concatenate([action, inputs], axis=-1)[:, : now.past.shape[1]]
        state = self._env.step(now.state, action)
        return _Running(
            state,
            past,
            now.returns + jnp.where(now.active, state.reward, 0),
            now.lengths + now.active,
            now.active & ~state.done,
            now.broken | (now.active & state.nonfinite),
        )
