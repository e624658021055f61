"""Environment: episodes of a task, with time limits, automatic resets, and replacement of non-finite worlds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from mjxppo import xla
from mjxppo.envs.batch import all_sound, is_sound, select, split_each
from mjxppo.envs.task import Array, Ended, Task


@flax.struct.dataclass
class EnvState:
    """N worlds and the results of their last step. Every array leads with N.

    Where an episode has just ended (``terminated | truncated``), ``obs`` and ``worlds`` are already those of
    the next episode, while ``reward``, ``final_obs``, ``episode_return``, ``episode_length`` and
    ``clock_offset`` are still those of the episode that ended.
    """

    worlds: Any
    """The task's worlds, a pytree (for a locomotion task a ``PhysicsState``)."""
    key: Array
    """One random key a world, [N]; only resets consume it."""
    obs: Array
    """The observation to act on next, [N, obs_size]."""
    final_obs: Array
    """The observation that the last action led to, before any reset, [N, obs_size]."""
    reward: Array
    """Reward of the last action, [N]."""
    reward_terms: dict[str, Array]
    """The reward's terms, each [N], under Gymnasium's names; they add up to ``reward``."""
    terminated: Array
    """The task ended the episode, [N] bool."""
    truncated: Array
    """The time limit, or a non-finite world, ended the episode, [N] bool."""
    nonfinite: Array
    """The world had broken (a number became NaN or larger than ``batch.MAX_VALUE``) and was reset; its last transition
    must not be used, [N] bool."""
    episode_return: Array
    """Sum of rewards in this episode, [N]."""
    episode_length: Array
    """Steps taken in this episode, [N] int32."""
    clock_offset: Array
    """Steps by which this episode's clock was ahead when it began, [N] int32; see ``Environment.stagger``."""

    @property
    def done(self) -> Array:
        """Whether the last step ended an episode, [N] bool."""
        return self.terminated | self.truncated


def at_start(worlds: Any, keys: Array, obs: Array, terms: Iterable[str]) -> EnvState:
    """The state of N worlds whose episodes have just begun: rewards, counts and ends are 0.

    ``keys`` is one random key a world [N], ``obs`` is [N, obs_size], and ``terms`` are the names of the reward's terms.
    """
    num_envs = obs.shape[0]
    zero = jnp.zeros(num_envs, obs.dtype)
    no = jnp.zeros(num_envs, bool)
    count = jnp.zeros(num_envs, jnp.int32)
    return EnvState(
        worlds=worlds,
        key=keys,
        obs=obs,
        final_obs=obs,
        reward=zero,
        reward_terms=dict.fromkeys(terms, zero),
        terminated=no,
        truncated=no,
        nonfinite=no,
        episode_return=zero,
        episode_length=count,
        clock_offset=count,
    )


class Environment:
    """N independent worlds of one task, stepped together; all methods are pure and jittable."""

    restorable: bool = True
    """Whether worlds that were saved can be continued exactly."""

    def __init__(self, task: Task, platform: str | None = None):
        """Episodes of ``task`` in a program for ``platform``, "cpu" or "gpu"; None: what this process computes on."""
        self.task = task
        self.platform = platform
        self.name, self.gym_id = task.name, task.gym_id
        self.obs_size, self.action_size = task.obs_size, task.action_size
        self.actions = task.actions
        self.privileged_size = task.privileged_size
        self.max_episode_steps, self.step_duration = task.max_episode_steps, task.step_duration

    @property
    def branches(self) -> bool:
        """Whether rare work is done in a branch, which a CPU does best; a GPU would wait for the host to decide it."""
        return xla.platform(self.platform) == "cpu"

    @property
    def failure(self) -> Exception | None:
        """The exception that stopped a simulation outside of the device program; None if there was none."""
        return None

    def reset(self, keys: Array) -> EnvState:
        """Starts N episodes, one for each random key: [N] typed keys, or [N, 2] raw key data."""
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.wrap_key_data(keys)
        keys, reset_keys = split_each(keys)
        worlds = self.task.initial(reset_keys)
        obs = self.task.observe(worlds)
        terms = self.task.reward_term_names(worlds, jnp.zeros((keys.shape[0], self.action_size), obs.dtype))
        return at_start(worlds, keys, obs, terms)

    def step(self, state: EnvState, action: Array) -> EnvState:
        """Takes one step in every world; worlds whose episode ends are reset to a fresh random initial state.

        A world that breaks, see ``EnvState.nonfinite``, is reset as well, with reward 0, ``truncated`` and
        ``nonfinite`` set; the other worlds are not affected. Actions [N, action_size] outside [-1, 1] are clipped by
        the actuators, but not in the control cost. Choices are category indices; a single one may be [N].
        """
        return self.reset_done(self.advance(state, action))

    def step_active(self, state: EnvState, action: Array, active: Array) -> EnvState:
        """``step``; the caller ignores worlds that are not ``active`` [N], so that they need not be stepped."""
        return self.step(state, action)

    def wait(self, state: EnvState, stepped: EnvState, active: Array) -> EnvState:
        """The worlds of ``stepped`` where they are ``active`` [N]; the others stay as in ``state``."""
        return select(active, stepped, state)

    def begin(self, state: EnvState) -> EnvState:
        """The worlds at the start of a rollout in which each acts for one episode: those that waited can begin one."""
        return state

    def advance(self, state: EnvState, action: Array) -> EnvState:
        """``step`` without the reset: worlds whose episode has ended stay as they ended, and ``obs`` is ``final_obs``.

        They have to go through ``reset_done`` before they are advanced again.
        """
        action = jnp.asarray(action, state.obs.dtype)
        if action.ndim == 1:
            action = action[:, None]
        worlds, terms, terminated = self.task.advance(state.worlds, action)
        obs = self.task.observe(worlds)
        sound = all_sound((self.task.state_variables(worlds), obs, terms))
        terms = {name: jnp.where(sound, term, 0) for name, term in terms.items()}
        reward = sum(terms.values(), jnp.zeros_like(state.reward))
        final_obs = jnp.where(sound[:, None], obs, jnp.where(is_sound(state.obs), state.obs, 0))

        was_done = state.done
        length = jnp.where(was_done, 0, state.episode_length) + 1
        offset = jnp.where(was_done, 0, state.clock_offset)
        terminated = terminated & sound
        truncated = ((length + offset >= self.max_episode_steps) | ~sound) & ~terminated
        return replace(
            state,
            worlds=worlds,
            obs=final_obs,
            final_obs=final_obs,
            reward=reward,
            reward_terms=terms,
            terminated=terminated,
            truncated=truncated,
            nonfinite=~sound,
            episode_return=jnp.where(was_done, 0, state.episode_return) + reward,
            episode_length=length,
            clock_offset=offset,
        )

    def reset_done(self, state: EnvState) -> EnvState:
        """Replaces the worlds whose episode has ended by new random ones; all others stay as they are."""
        # Ends are rare, and new worlds take time to build: without vmap this is a branch, not a select.
        if self.branches:
            return lax.cond(state.done.any(), self._reset_done, lambda s: s, state)
        return self._reset_done(state)

    def _reset_done(self, state: EnvState) -> EnvState:
        done = state.done
        next_keys, reset_keys = split_each(state.key)
        ended = Ended(done, state.episode_return, state.nonfinite, state.clock_offset)
        fresh = self.task.restart(state.worlds, ended, reset_keys)
        worlds = select(done, fresh, state.worlds)
        return replace(
            state,
            worlds=worlds,
            key=select(done, next_keys, state.key),
            obs=jnp.where(done[:, None], self.task.observe(fresh), state.obs),
        )

    def action_mask(self, state: EnvState) -> Array | None:
        """The categories that may be chosen in the worlds' next step, see ``Task.action_mask``."""
        return self.task.action_mask(state.worlds)

    def prepare(self, state: EnvState) -> EnvState:
        """The state prepared for a rollout, see ``Task.prepare``."""
        return replace(state, worlds=self.task.prepare(state.worlds))

    def stagger(self, state: EnvState, key: Array, indices: Array) -> EnvState:
        """Sets the episode clock of each newly reset world to a random time, so that time limits are spread over time.

        In a task that never terminates, all worlds would otherwise be truncated at the same steps throughout training.
        The world itself stays at its initial state; its shortened first episode has a positive ``clock_offset``. The
        clock depends on ``key`` and on the world's global index (``indices`` [N]) alone.
        """
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
        offset = jax.vmap(lambda k: jax.random.randint(k, (), 0, self.max_episode_steps))(keys)
        return replace(state, clock_offset=offset.astype(jnp.int32))

    def restore(self, state: EnvState) -> EnvState:
        """A saved state as training can continue with it; here unchanged."""
        return state

    def reset_info(self, state: EnvState) -> dict[str, Array]:
        """Gymnasium's ``info`` of worlds at any time, each [N]."""
        return self.task.reset_info(state.worlds)

    def step_info(self, state: EnvState) -> dict[str, Array]:
        """Gymnasium's ``info`` of worlds that ``advance`` has just left, each [N]."""
        return self.task.step_info(state.worlds, state.reward_terms)

    def metrics(self, state: EnvState) -> dict[str, Array]:
        """Numbers to log of the worlds while training, by name, each [N]."""
        return self.task.metrics(state.worlds)
