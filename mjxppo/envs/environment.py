"""Batched environments: episode bookkeeping, time limits and auto-reset around a task.

A task says what a world is (``_initial``), what is seen of it (``_observe``) and what one step does to it
(``_advance``); everything that all tasks share is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
T = TypeVar("T")


@flax.struct.dataclass
class EnvState:
    """N worlds and all that the last step said about them. Every array leads with N.

    Where an episode has just ended (``terminated | truncated``), ``obs`` and ``physics`` are already those of
    the next episode, while ``reward``, ``final_obs``, ``episode_return``, ``episode_length`` and
    ``clock_offset`` are still those of the episode that ended.
    """

    physics: Any
    """State of the simulated worlds (for MuJoCo tasks a ``PhysicsState``)."""
    key: Array
    """One random key a world, [N]; consumed by resets only."""
    obs: Array
    """What to act on next, [N, obs_size]."""
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
    """The world had become NaN or infinite and was reset; its last transition means nothing, [N] bool."""
    episode_return: Array
    """Sum of rewards in this episode, [N]."""
    episode_length: Array
    """Steps taken in this episode, [N] int32."""
    clock_offset: Array
    """Steps by which this episode's clock was ahead when it began, [N] int32; see ``stagger``."""

    @property
    def done(self) -> Array:
        """Whether the last step ended an episode, [N] bool."""
        return self.terminated | self.truncated


def at_start(physics: Any, keys: Array, obs: Array, terms: Iterable[str]) -> EnvState:
    """N worlds whose episodes have just begun: nothing has been rewarded, counted or ended.

    Args:
        physics: the simulated worlds.
        keys: one random key a world, [N].
        obs: what is seen of them, [N, obs_size].
        terms: names of the reward's terms.
    """
    num_envs = obs.shape[0]
    zero = jnp.zeros(num_envs, obs.dtype)
    no = jnp.zeros(num_envs, bool)
    count = jnp.zeros(num_envs, jnp.int32)
    return EnvState(
        physics=physics,
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


class Environment(ABC):
    """N independent worlds of one task, stepped together; all methods are pure and jittable."""

    name: str
    """The task's name in configs and on the command line."""
    gym_id: str | None
    """The Gymnasium environment that this task equals, if there is one."""
    obs_size: int
    action_size: int
    max_episode_steps: int
    """Time limit in environment steps."""
    step_duration: float
    """Simulated seconds per environment step."""
    privileged_size: int = 0
    """How many numbers at the end of each observation are ``_hidden`` ones, which no robot has."""
    on_host: bool = False
    """Whether the worlds live on the host, and a step is a call there. They are stepped all together, by one device."""
    failure: Exception | None = None
    """What went wrong on the host, where something did."""

    @abstractmethod
    def _initial(self, keys: Array) -> Any:
        """Fresh random worlds, one per key [N]."""

    def _variables(self, physics: Any) -> Any:
        """What a step may turn non-finite; by default all of the worlds' state."""
        return physics

    def _restart(self, state: EnvState, keys: Array) -> Any:
        """Fresh random worlds, one per key [N], to follow the episodes that have ended in ``state``."""
        return self._initial(keys)

    @abstractmethod
    def _observe(self, physics: Any) -> Array:
        """Observations [N, obs_size] of the worlds."""

    @abstractmethod
    def _advance(self, physics: Any, action: Array) -> tuple[Any, dict[str, Array], Array]:
        """One environment step: the new worlds, the reward's terms (each [N]), and ``terminated`` [N]."""

    def _hidden(self, physics: Any) -> dict[str, Array]:
        """What is known of simulated worlds and not observed in them, by name, each [N, any]; by default nothing."""
        return {}

    def _term_names(self, physics: Any, action: Array) -> list[str]:
        """Names of the reward's terms; here found by tracing a whole step, which takes a second for some physics."""
        return list(jax.eval_shape(self._advance, physics, action)[1])

    def reset_info(self, physics: Any) -> dict[str, Array]:
        """What Gymnasium's counterpart says in ``info`` of worlds at any time, each [N]; by default nothing."""
        return {}

    def metrics(self, state: EnvState) -> dict[str, Array]:
        """What is to be logged of the worlds while training, each [N], by its name in the metrics; by default nothing.

        Means over all worlds are logged.
        """
        return {}

    def renew(self, state: EnvState) -> EnvState:
        """Prepares the worlds for the coming steps; called before each rollout. Here they need nothing.

        It changes nothing that the next step sees: what is dear is done here for many steps at once.
        """
        return state

    def step_info(self, state: EnvState) -> dict[str, Array]:
        """What Gymnasium's counterpart says in ``info`` of worlds that ``advance`` has just left, each [N]."""
        return self.reset_info(state.physics) | state.reward_terms

    def hidden_sizes(self) -> dict[str, int]:
        """The names in ``_hidden``, and how many numbers each has."""
        known = jax.eval_shape(lambda keys: self._hidden(self._initial(keys)), jax.random.split(jax.random.key(0), 1))
        return {name: x.shape[1] for name, x in known.items() if x.shape[1]}

    def reset(self, keys: Array) -> EnvState:
        """Starts N episodes, one per random key.

        Args:
            keys: [N] typed keys, or [N, 2] raw key data.
        """
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.wrap_key_data(keys)
        keys, reset_keys = split_each(keys)
        physics = self._initial(reset_keys)
        obs = self._observe(physics)
        terms = self._term_names(physics, jnp.zeros((keys.shape[0], self.action_size), obs.dtype))
        return at_start(physics, keys, obs, terms)

    def step(self, state: EnvState, action: Array) -> EnvState:
        """Acts once in every world; worlds whose episode ends are reset to a fresh random initial state.

        A world that becomes non-finite, or whose reward does, is reset as well, with reward 0, ``truncated`` and
        ``nonfinite`` set; the other worlds do not notice.

        Args:
            state: N worlds.
            action: [N, action_size]. Values outside [-1, 1] are clipped by the actuators, not by the
                control cost.
        """
        return self.reset_done(self.advance(state, action))

    def step_active(self, state: EnvState, action: Array, active: Array) -> EnvState:
        """As ``step``; nobody will look at worlds that are not ``active`` [N], which need not be stepped."""
        return self.step(state, action)

    def begin_anew(self, state: EnvState) -> EnvState:
        """What is restored from a checkpoint as training can go on with it: here all of it."""
        return state

    def advance(self, state: EnvState, action: Array) -> EnvState:
        """As ``step``, but leaves the worlds whose episode has ended as they ended: ``obs`` is ``final_obs``.

        They have to go through ``reset_done`` before they are advanced again.
        """
        action = jnp.asarray(action, state.obs.dtype)
        physics, terms, terminated = self._advance(state.physics, action)
        obs = self._observe(physics)
        finite = all_finite((self._variables(physics), obs, terms))
        terms = {name: jnp.where(finite, term, 0) for name, term in terms.items()}
        reward = sum(terms.values(), jnp.zeros_like(state.reward))
        final_obs = jnp.where(finite[:, None], obs, jnp.nan_to_num(state.obs, nan=0.0, posinf=0.0, neginf=0.0))

        was_done = state.done
        length = jnp.where(was_done, 0, state.episode_length) + 1
        offset = jnp.where(was_done, 0, state.clock_offset)
        terminated = terminated & finite
        truncated = ((length + offset >= self.max_episode_steps) | ~finite) & ~terminated
        return replace(
            state,
            physics=physics,
            obs=final_obs,
            final_obs=final_obs,
            reward=reward,
            reward_terms=terms,
            terminated=terminated,
            truncated=truncated,
            nonfinite=~finite,
            episode_return=jnp.where(was_done, 0, state.episode_return) + reward,
            episode_length=length,
            clock_offset=offset,
        )

    def reset_done(self, state: EnvState) -> EnvState:
        """Replaces the worlds whose episode has ended by fresh random ones; all else stays as it is."""
        # Ends are rare, and building fresh worlds is not free: a branch, not a select, wherever there is no vmap.
        return lax.cond(state.done.any(), self._reset_done, lambda s: s, state)

    def _reset_done(self, state: EnvState) -> EnvState:
        done = state.done
        next_keys, reset_keys = split_each(state.key)
        fresh = self._restart(state, reset_keys)
        physics = select(done, fresh, state.physics)
        return replace(
            state,
            physics=physics,
            key=select(done, next_keys, state.key),
            obs=jnp.where(done[:, None], self._observe(fresh), state.obs),
        )


def stagger(state: EnvState, key: Array, indices: Array, max_episode_steps: int) -> EnvState:
    """Sets each world's episode clock to a random time, so that time limits do not strike all at once.

    In a task that never terminates, all worlds would otherwise be truncated at the same step for ever.
    Only the clock moves: the world itself is at its initial state, and the shortened first episode can be told
    by its positive ``clock_offset``.

    Args:
        state: freshly reset worlds.
        key: a random key.
        indices: each world's global index, [N]; its clock depends on nothing else.
        max_episode_steps: the time limit.
    """
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
    offset = jax.vmap(lambda k: jax.random.randint(k, (), 0, max_episode_steps))(keys)
    return replace(state, clock_offset=offset.astype(jnp.int32))


def split_each(keys: Array) -> tuple[Array, Array]:
    """Two random keys of each, [N] and [N]."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def select(mask: Array, new: T, old: T) -> T:
    """Worlds of ``new`` where ``mask`` [N] holds, else of ``old``; pytrees whose arrays lead with N."""

    def pick(new: Array, old: Array) -> Array:
        if new is old:  # what no branch changes is neither copied nor carried
            return old
        return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)

    return jax.tree.map(pick, new, old)


def all_finite(tree: Any) -> Array:
    """Whether every floating-point number of each world is finite, [N]."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finite = jnp.array(True)
    for leaf in leaves:
        finite = finite & jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(-1)
    return finite
