"""Gymnasium's three autoreset modes as one device program over all worlds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mjxppo import xla
from mjxppo.envs.environment import Array, Environment, EnvState, at_start, select
from mjxppo.errors import UserError
from mjxppo.physics.worlds import map_blocks

_LARGEST_BLOCK = 256
"""The most worlds that are stepped together on a CPU: few enough that all they need stays in cache."""


@flax.struct.dataclass
class Step:
    """What a step, or a reset, says of N worlds; every array leads with N."""

    obs: Array
    """What to act on next, or the episode's last observation where the world waits for its reset."""
    reward: Array
    terminated: Array
    truncated: Array
    info: dict[str, Array]
    began: Array
    """Whether ``obs`` is a new episode's first, [N] bool: then ``info`` is a reset's, and its other entries are 0."""
    final_obs: Array | None = None
    """With SAME_STEP: the observation that the action led to, before any reset."""
    final_info: dict[str, Array] | None = None
    """With SAME_STEP: ``info`` before any reset."""

    @property
    def done(self) -> Array:
        """Whether the step ended an episode, [N] bool."""
        return self.terminated | self.truncated


def reset(env: Environment, keys: Array) -> tuple[EnvState, Step]:
    """Starts N episodes, one per raw key, [N, 2]."""
    state = env.reset(jax.random.wrap_key_data(keys, impl="threefry2x32"))
    return state, _first(env, state)


def reset_some(env: Environment, state: EnvState, keys: Array, seeded: Array, mask: Array) -> tuple[EnvState, Step]:
    """Starts new episodes where ``mask`` [N]: from ``keys`` [N, 2] where ``seeded`` [N], else from the worlds' own."""
    keys = select(seeded, jax.random.wrap_key_data(keys, impl="threefry2x32"), state.key)
    state = select(mask, env.reset(keys), state)
    first = _first(env, state)
    return state, replace(first, began=mask, info=_only(mask, first.info))


def step(env: Environment, mode: AutoresetMode, state: EnvState, action: Array) -> tuple[EnvState, Step]:
    """Acts once in every world; what happens where an episode has ended depends on the mode."""
    if mode is AutoresetMode.NEXT_STEP:
        began, state = state.done, env.reset_done(state)
        stepped = env.advance(state, action)
        # The worlds that have been replaced, as a reset would leave them.
        begun = at_start(state.physics, state.key, state.obs, state.reward_terms)
        state = lax.cond(began.any(), lambda: select(began, begun, stepped), lambda: stepped)
        return state, _after(env, state, state.final_obs, began)
    stepped = env.advance(state, action)
    if mode is AutoresetMode.DISABLED:
        return stepped, _after(env, stepped, stepped.obs, jnp.zeros_like(stepped.done))
    state = env.reset_done(stepped)
    result = _after(env, state, state.obs, state.done)
    return state, replace(result, final_obs=stepped.obs, final_info=_only(state.done, env.step_info(stepped)))


def _first(env: Environment, state: EnvState) -> Step:
    no = jnp.zeros_like(state.done)
    info = env.reset_info(state.physics)
    return Step(obs=state.obs, reward=state.reward, terminated=no, truncated=no, info=info, began=~no)


def _after(env: Environment, state: EnvState, obs: Array, began: Array) -> Step:
    info = _only(~began, env.step_info(state)) | env.reset_info(state.physics)
    return Step(
        obs=obs,
        reward=state.reward,
        terminated=state.terminated,
        truncated=state.truncated,
        info=info,
        began=began,
    )


def _only(mask: Array, info: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.where(mask, value, 0) for name, value in info.items()}


class OnDevices:
    """Spreads N worlds over the devices and, on a CPU, walks through each device's worlds in blocks."""

    def __init__(self, num_envs: int, num_devices: int):
        """Chooses ``num_devices`` devices; 0: the largest number of available ones that divides ``num_envs``."""
        available = min(jax.device_count(), num_envs)
        count = num_devices or max(n for n in range(1, available + 1) if num_envs % n == 0)
        if count > available or num_envs % count:
            raise UserError(f"num_devices: must be at most {available} and divide num_envs = {num_envs}, not {count}")
        self._sharding = NamedSharding(Mesh(np.array(jax.devices()[:count]), ("worlds",)), PartitionSpec("worlds"))
        local_envs = num_envs // count
        self._block_size = local_envs
        if xla.platform() == "cpu":
            largest = min(local_envs, _LARGEST_BLOCK)
            self._block_size = max(size for size in range(1, largest + 1) if local_envs % size == 0)

    def jit(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """``function`` of arrays that lead with the worlds, to such arrays, as a compiled program."""

        def by_blocks(*arguments: Any) -> Any:
            return map_blocks(function, arguments, self._block_size)

        mesh, split = self._sharding.mesh, self._sharding.spec
        sharded = jax.shard_map(by_blocks, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
        return jax.jit(sharded, in_shardings=self._sharding, **options)


def pack(tree: Any) -> Array:
    """All arrays of a pytree, which lead with N, as one [N, K]: one transfer to the host instead of many."""
    leaves = jax.tree.leaves(tree)
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in leaves], axis=-1)


def unpack(packed: np.ndarray, like: Any) -> Any:
    """The pytree of NumPy arrays that ``pack`` was given, whose shapes (without N) and types ``like`` has.

    Floating-point numbers become float64, which is what Gymnasium's own environments give.
    """
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.prod(leaf.shape[1:])) for leaf in leaves])
    columns = np.split(packed, ends[:-1], axis=1)
    arrays = [
        column.reshape(len(packed), *leaf.shape[1:]).astype(bool if leaf.dtype == bool else np.float64)
        for column, leaf in zip(columns, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)
