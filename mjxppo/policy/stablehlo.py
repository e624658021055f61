"""A policy as serialised StableHLO, for ``jax.export``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mjxppo.policy.policy import Policy
from mjxppo.ppo.networks import ACTIVATIONS


def to_stablehlo(policy: Policy) -> bytes:
    """The bytes of ``jax.export``'s ``serialize``: float32 [batch, obs_size] to [batch, action_size], CPU and CUDA.

    With a history the function takes (observations, past) and returns (actions, next past).
    """

    def act(seen: jax.Array) -> jax.Array:
        x = (seen - policy.obs_mean) * policy.obs_scale
        x = jnp.clip(x, -policy.obs_clip, policy.obs_clip)
        for i, (weight, bias) in enumerate(policy.layers):
            # GPUs would otherwise multiply in TF32, whose 10 bits of mantissa show in the actions.
            x = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias
            x = ACTIVATIONS[policy.activation](x) if i < len(policy.layers) - 1 else jnp.tanh(x)
        return x

    def act_and_remember(obs: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = jnp.concatenate([obs, past], axis=-1)
        action = act(seen)
        return action, jnp.concatenate([action, seen], axis=-1)[:, : past.shape[1]]

    (batch,) = jax_export.symbolic_shape("batch")
    sizes = (policy.obs_size, policy.inputs - policy.obs_size)
    obs, past = (jax.ShapeDtypeStruct((batch, size), jnp.float32) for size in sizes)
    program, given = (act_and_remember, (obs, past)) if policy.history > 1 else (act, (obs,))
    return bytes(jax_export.export(jax.jit(program), platforms=("cpu", "cuda"))(*given).serialize())
