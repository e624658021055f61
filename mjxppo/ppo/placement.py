"""Placement of a run's worlds on devices, and whether its members are trained in turn or at the same time."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mjxppo import xla
from mjxppo.config.schema import Config
from mjxppo.errors import UserError
from mjxppo.ppo.collective import AXIS

COPIED = PartitionSpec()
"""An array that is the same on each device."""
SPLIT = PartitionSpec(AXIS)
"""An array whose first axis is split over the devices: worlds, or blocks of worlds."""
SPLIT_OF_EACH_MEMBER = PartitionSpec(None, AXIS)
"""The same where the first axis is the members'."""

VECTORIZED_WORLDS = 64
"""On a CPU, members with at least this number of worlds are trained one after the other: one member already fills the
vector units."""


class Target(NamedTuple):
    """What a program is compiled for."""

    platform: str
    """JAX's platform: cpu, gpu or tpu."""
    devices: tuple[Any, ...]
    """The devices of all processes, which need not be there as long as the program is only compiled."""


def this_machine() -> Target:
    """The devices on which this process, and those that it has joined, compute."""
    return Target(xla.platform(), tuple(jax.devices()))


class Layout(NamedTuple):
    """Distribution of a run's worlds and members over devices and over time."""

    num_devices: int
    """Devices; each has the same number of worlds."""
    worlds_at_a_time: int
    """Worlds that a device simulates together; all its worlds are simulated in portions of this size."""
    block_by_block: bool
    """Whether the values of a batch are computed a block of worlds at a time, instead of all at once."""
    members_in_turn: bool
    """Whether members are trained one after the other, instead of vectorised."""


def choose_layout(config: Config, target: Target, on_host: bool) -> Layout:
    """The layout of a run with a checked configuration on the devices of ``target``.

    With ``on_host`` a program outside JAX simulates the worlds: one device has all of them and calls that program once
    for all.

    Raises:
        UserError: the processes cannot share the blocks of worlds evenly.
    """
    shared = choose_num_devices(config, len(target.devices), jax.process_count())
    num_devices = 1 if on_host else shared
    ppo, on_cpu = config.ppo, target.platform == "cpu"
    # Whole episodes end early in one member and late in another; together all would last as long.
    whole_episodes = config.algorithm in ("reinforce", "es")
    # On a CPU a block's working set stays in cache through a whole rollout; an accelerator needs many worlds at once.
    one_block = on_cpu and not on_host
    return Layout(
        num_devices=num_devices,
        worlds_at_a_time=ppo.block_size if one_block else ppo.num_envs // num_devices,
        block_by_block=on_cpu,
        members_in_turn=on_host or (on_cpu and (ppo.num_envs >= VECTORIZED_WORLDS or whole_episodes)),
    )


def choose_num_devices(config: Config, available: int, num_processes: int = 1) -> int:
    """The configured number of devices, or the largest that divides the number of blocks of worlds evenly.

    Each of several processes takes part with the same number of devices.

    Raises:
        UserError: they cannot share the blocks evenly.
    """
    blocks = config.ppo.num_envs // config.ppo.block_size
    if config.num_devices % num_processes:
        raise UserError(f"num_devices: {config.num_devices} is no multiple of the number of processes, {num_processes}")
    if config.num_devices:
        return config.num_devices
    if blocks % num_processes:
        raise UserError(
            f"ppo.num_envs: {config.ppo.num_envs} in blocks of ppo.block_size = {config.ppo.block_size} make {blocks} "
            f"blocks, which {num_processes} processes cannot share evenly"
        )
    counts = range(num_processes, min(available, blocks) + 1, num_processes)
    return max(count for count in counts if blocks % count == 0)


def mesh(num_devices: int, devices: tuple[Any, ...]) -> Mesh:
    """``num_devices`` of the ``devices`` in a row, the same number of each process.

    Worlds lie on them by their global index.
    """
    each = num_devices // jax.process_count()
    by_process = [[d for d in devices if d.process_index == i] for i in range(jax.process_count())]
    return Mesh(np.array([device for devices in by_process for device in devices[:each]]), (AXIS,))


def put(tree: Any, shardings: Any) -> Any:
    """A pytree that is whole on every process, put on the devices; no process sends anything to another."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_put_own_shards, tree, shardings)


def _put_own_shards(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put_own_shards(jax.random.key_data(x), sharding))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
