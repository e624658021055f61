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
from mjxppo.envs.batch import select
from mjxppo.envs.environment import Environment, EnvState, at_start
from mjxppo.envs.task import Array
from mjxppo.errors import UserError
from mjxppo.physics.worlds import map_blocks

_LARGEST_BLOCK = 256
"""On a CPU at most this number of worlds are stepped together, so that their working set stays in cache."""


@flax.struct.dataclass
class Step:
    """The results of a step, or of a reset, of N worlds; the first axis of every array is N."""

    obs: Array
    """The observation to act on next, or the episode's last one where the world waits for its reset."""
    reward: Array
    terminated: Array
    truncated: Array
    info: dict[str, Array]
    began: Array
    """Whether ``obs`` is a new episode's first, [N] bool: then ``info`` is that of a reset, its other entries 0."""
    final_obs: Array | None = None
    """With SAME_STEP: the observation that the action led to, before any reset."""
    final_info: dict[str, Array] | None = None
    """With SAME_STEP: ``info`` before any reset."""

    @property
    def done(self) -> Array:
        """Whether the step ended an episode, [N] bool."""
        return self.terminated | self.truncated


def reset(env: Environment, keys: Array) -> tuple[EnvState, Step]:
    """Starts N episodes, one for each raw random key [N, 2]."""
    state = env.reset(jax.random.wrap_key_data(keys, impl="threefry2x32"))
    return state, _of_reset(env, state)


def reset_some(env: Environment, state: EnvState, keys: Array, seeded: Array, mask: Array) -> tuple[EnvState, Step]:
    """Starts new episodes where ``mask`` [N]: from ``keys`` [N, 2] where ``seeded`` [N], else from the worlds' own."""
    keys = select(seeded, jax.random.wrap_key_data(keys, impl="threefry2x32"), state.key)
    state = select(mask, env.reset(keys), state)
    first = _of_reset(env, state)
    return state, replace(first, began=mask, info=_masked(mask, first.info))


def step(env: Environment, mode: AutoresetMode, state: EnvState, action: Array) -> tuple[EnvState, Step]:
    """Takes one step in every world. Worlds whose episode has ended are reset as the autoreset mode says."""
    if mode is AutoresetMode.NEXT_STEP:
        began, state = state.done, env.reset_done(state)
        stepped = env.advance(state, action)
        # In worlds that have just been reset the action is ignored, and the results are those of a reset.
        begun = at_start(state.worlds, state.key, state.obs, state.reward_terms)
        state = lax.cond(began.any(), lambda: select(began, begun, stepped), lambda: stepped)
        return state, _of_step(env, state, state.final_obs, began)
    stepped = env.advance(state, action)
    if mode is AutoresetMode.DISABLED:
        return stepped, _of_step(env, stepped, stepped.obs, jnp.zeros_like(stepped.done))
    state = env.reset_done(stepped)
    result = _of_step(env, state, state.obs, state.done)
    return state, replace(result, final_obs=stepped.obs, final_info=_masked(state.done, env.step_info(stepped)))


def _of_reset(env: Environment, state: EnvState) -> Step:
    """The results of a reset of all worlds."""
    no = jnp.zeros_like(state.done)
    info = env.reset_info(state)
    return Step(obs=state.obs, reward=state.reward, terminated=no, truncated=no, info=info, began=~no)


def _of_step(env: Environment, state: EnvState, obs: Array, began: Array) -> Step:
    """The results of a step; where ``began`` [N], of a reset."""
    info = _masked(~began, env.step_info(state)) | env.reset_info(state)
    return Step(
        obs=obs,
        reward=state.reward,
        terminated=state.terminated,
        truncated=state.truncated,
        info=info,
        began=began,
    )


def _masked(mask: Array, info: dict[str, Array]) -> dict[str, Array]:
    """``info`` where ``mask`` [N] holds, else 0."""
    return {name: jnp.where(mask, value, 0) for name, value in info.items()}


class OnDevices:
    """Splits N worlds over the devices; on a CPU, each device steps its worlds in blocks, one after the other."""

    def __init__(self, num_envs: int, num_devices: int):
        """Chooses ``num_devices`` devices; 0: the largest number available that divides ``num_envs`` (N).

        Raises UserError where there are fewer devices, or their number does not divide N.
        """
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
        """A function from arrays that lead with N to arrays that lead with N, as a compiled program on the devices."""

        def by_blocks(*arguments: Any) -> Any:
            return map_blocks(function, arguments, self._block_size)

        mesh, split = self._sharding.mesh, self._sharding.spec
        sharded = jax.shard_map(by_blocks, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
        return jax.jit(sharded, in_shardings=self._sharding, **options)


def pack(tree: Any) -> Array:
    """All arrays of a pytree, which lead with N, as one [N, K]: one transfer to the host instead of several."""
    leaves = jax.tree.leaves(tree)
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in leaves], axis=-1)


def unpack(packed: np.ndarray, like: Any) -> Any:
    """The inverse of ``pack`` for ``packed`` [N, K]: a pytree of NumPy arrays.

    ``like`` has the structure, shapes (except for N) and types that ``pack`` was given. Floating-point numbers become
    float64, the type of Gymnasium's own environments.
    """
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.prod(leaf.shape[1:])) for leaf in leaves])
    columns = np.split(packed, ends[:-1], axis=1)
    arrays = [
        column.reshape(len(packed), *leaf.shape[1:]).astype(bool if leaf.dtype == bool else np.float64)
        for column, leaf in zip(columns, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)
