"""A policy as serialised StableHLO, for ``jax.export``."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mjxppo.policy.policy import Policy
from mjxppo.ppo.distribution import per_choice
from mjxppo.ppo.networks import ACTIVATIONS


class Arrays(NamedTuple):
    """The arrays of a policy, which may be traced."""

    obs_mean: Any
    obs_scale: Any
    layers: Any

    @classmethod
    def of(cls, policy: Policy) -> Arrays:
        """Those of ``policy``."""
        return cls(policy.obs_mean, policy.obs_scale, policy.layers)


def likeliest(
    policy: Policy, arrays: Arrays, inputs: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Actions [N, action_size] of ``policy``, with ``arrays`` in place of its own, for inputs [N, inputs].

    With choices their logits follow, [N, sum of categories]. ``mask`` as in ``Task.action_mask``.
    """
    x = (inputs - arrays.obs_mean) * arrays.obs_scale
    x = jnp.clip(x, -policy.obs_clip, policy.obs_clip)
    for i, (weight, bias) in enumerate(arrays.layers):
        # GPUs would otherwise multiply in TF32, whose 10 bits of mantissa show in the actions.
        x = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias
        x = ACTIVATIONS[policy.activation](x) if i < len(arrays.layers) - 1 else x
    spec = policy.actions
    if not spec.categories:
        return jnp.tanh(x), ()
    numbers, logits = jnp.tanh(x[:, : spec.continuous]), x[:, spec.continuous :]
    parts = per_choice(logits, spec.categories)
    if mask is not None:
        allowed = (part | ~part.any(-1, keepdims=True) for part in per_choice(mask, spec.categories))
        parts = [jnp.where(may, part, -jnp.inf) for may, part in zip(allowed, parts, strict=True)]
    chosen = [part.argmax(-1).astype(x.dtype) for part in parts]
    return jnp.concatenate([numbers, jnp.stack(chosen, axis=-1)], axis=-1), (logits,)


def to_stablehlo(policy: Policy) -> bytes:
    """The bytes of ``jax.export``'s ``serialize``: float32 [batch, obs_size] to [batch, action_size], CPU and CUDA.

    With a history the function takes (observations, past) and returns (actions, next past). With choices it returns
    the logits of their categories as well, last.
    """
    own = Arrays.of(policy)

    def act(obs: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
        action, logits = likeliest(policy, own, obs)
        return (action, *logits) if logits else action

    def act_and_remember(obs: jax.Array, past: jax.Array) -> tuple[jax.Array, ...]:
        seen = jnp.concatenate([obs, past], axis=-1)
        action, logits = likeliest(policy, own, seen)
        return action, jnp.concatenate([action, seen], axis=-1)[:, : past.shape[1]], *logits

    (batch,) = jax_export.symbolic_shape("batch")
    sizes = (policy.obs_size, policy.inputs - policy.obs_size)
    obs, past = (jax.ShapeDtypeStruct((batch, size), jnp.float32) for size in sizes)
    program, given = (act_and_remember, (obs, past)) if policy.history > 1 else (act, (obs,))
    return bytes(jax_export.export(jax.jit(program), platforms=("cpu", "cuda"))(*given).serialize())
