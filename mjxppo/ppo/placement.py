"""Which devices share the worlds, and how arrays come to lie on them; of one process, or of several together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mjxppo.config.schema import Config
from mjxppo.errors import UserError
from mjxppo.ppo.collective import AXIS


def choose_num_devices(config: Config, available: int, num_processes: int = 1) -> int:
    """As many devices as there are and as divide the number of blocks of worlds evenly, unless configured.

    Of several processes each takes part with the same number of devices.

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


def mesh(num_devices: int) -> Mesh:
    """So many devices in a row, of each process the same number; worlds lie on them by their global index."""
    each = num_devices // jax.process_count()
    by_process = [[d for d in jax.devices() if d.process_index == i] for i in range(jax.process_count())]
    return Mesh(np.array([device for devices in by_process for device in devices[:each]]), (AXIS,))


def put(tree: Any, shardings: Any) -> Any:
    """A pytree that is whole on every process, laid on the devices; no process sends anything to another."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_put_own_shards, tree, shardings)


def _put_own_shards(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put_own_shards(jax.random.key_data(x), sharding))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
