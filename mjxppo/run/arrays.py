"""Conversion of a pytree to named arrays, the form that checkpoints and dumps have, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.errors import UserError


def named_arrays(state: Any) -> dict[str, np.ndarray]:
    """A pytree as named host arrays: names are paths, random keys become their raw words.

    The arrays are copies, because the device program reuses the buffers of the state it is given. Arrays without any
    element, such as a simulator's contacts in a model that has none, are left out: Orbax refuses them.
    """
    return {name: np.array(leaf, copy=True) for name, leaf in _named(state).items()}


def _named(state: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _raw(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if leaf.size
    }


def copied_shards(state: Any) -> dict[str, jax.Array]:
    """As ``named_arrays``, but arrays stay on their devices, each process holding its own shards."""
    named = _named(state)
    shardings = {name: array.sharding for name, array in named.items()}
    copy = jax.jit(lambda arrays: jax.tree.map(jnp.copy, arrays), out_shardings=shardings)
    copies: dict[str, jax.Array] = copy(named)
    return copies


def from_named_arrays(template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The pytree with ``template``'s structure whose leaves are ``arrays``.

    Raises UserError where a leaf is missing, superfluous, or of another shape or type than the template's.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    unknown = sorted(set(arrays) - set(names))
    if unknown:
        raise UserError(f"checkpoint: holds {unknown[0]}, which this configuration has no place for")
    restored = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if not leaf.size:
            restored.append(jnp.zeros(leaf.shape, leaf.dtype))
            continue
        if name not in arrays:
            raise UserError(f"checkpoint: lacks {name}, which this configuration needs")
        array, wanted = arrays[name], jax.eval_shape(_raw, leaf)
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            raise UserError(
                f"checkpoint: {name} is {array.dtype}{list(array.shape)}, this configuration needs "
                f"{wanted.dtype}{list(wanted.shape)}"
            )
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        restored.append(jax.random.wrap_key_data(jnp.asarray(array)) if is_key else jnp.asarray(array))
    return jax.tree_util.tree_unflatten(structure, restored)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
