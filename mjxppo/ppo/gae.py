"""Generalised advantage estimation (Schulman et al. 2016, https://arxiv.org/abs/1506.02438)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def generalized_advantages(
    reward: Array,
    value: Array,
    terminated: Array,
    truncated: Array,
    final_value: Array,
    valid: Array,
    *,
    gamma: float | Array,
    gae_lambda: float | Array,
    unroll: int = 4,
) -> Array:
    """Advantages of T steps in N worlds, by one reverse scan.

    With ``next_value`` the value of what the action led to,

        delta[t] = reward[t] + gamma * next_value[t] - value[t]
        advantage[t] = delta[t] + gamma * gae_lambda * advantage[t + 1]

    and every episode end cuts the recursion. ``next_value`` is 0 after a termination, the value of the true last
    observation after a truncation, and ``value[t + 1]`` otherwise.

    Args:
        reward: [T, N].
        value: values of the T observations acted on and of the one after them, [T + 1, N].
        terminated: the task ended the episode at this step, [T, N] bool.
        truncated: the time limit ended the episode at this step, [T, N] bool.
        final_value: value of the true last observation where ``truncated``, [T, N]; ignored elsewhere.
        valid: false where there was no step, or one without meaning; its advantage is 0, and it passes
            nothing on to earlier steps, [T, N] bool.
        gamma: discount per step.
        gae_lambda: 0 gives one-step TD errors, 1 gives discounted returns minus the value.
        unroll: steps of the scan that the program does at once; the result is the same.

    Returns:
        Advantages, [T, N].
    """
    next_value = jnp.where(truncated, final_value, value[1:])
    next_value = jnp.where(terminated, 0, next_value)
    delta = jnp.where(valid, reward + gamma * next_value - value[:-1], 0)
    carry_on = jnp.where(terminated | truncated | ~valid, 0, gamma * gae_lambda).astype(delta.dtype)

    def backward(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, carry_on = step
        advantage = delta + carry_on * advantage
        return advantage, advantage

    _, advantages = lax.scan(backward, jnp.zeros_like(delta[0]), (delta, carry_on), reverse=True, unroll=unroll)
    return advantages
