"""The objective of SHAC over a horizon of T steps: discounted rewards and a value at the end of each piece.

A piece is the part of an episode that lies in the horizon. With t counted from its first step, and n steps in it, a
piece adds

    sum_t gamma^t reward[t] + gamma^n V(last observation)

where V is the target critic, and 0 after a termination (Xu et al. 2022, equation 5, and its authors' code for what an
episode's end does).
"""

from __future__ import annotations

from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from mjxppo.ppo.collective import Devices
from mjxppo.ppo.heads import Outputs

Array = jax.Array


@flax.struct.dataclass
class HorizonDerivative:
    """The derivative of the objective, a sum over worlds, in T steps of B worlds; every array leads with [T, B]."""

    by_outputs: Outputs
    """By the policy's outputs in each step, each [T, B, any], with all that they change in later steps. 0 where the
    world is left out."""
    objective: Array
    """What the step adds to the objective, in units of the reward."""
    kept: Array
    """Whether a step was taken, in a world whose derivative is finite and that did not break, bool."""
    left_out: Array
    """Whether this is the first step of a world that was left out, bool."""


def bound_worlds(derivative: HorizonDerivative, devices: Devices) -> HorizonDerivative:
    """The derivative by the outputs, in each world scaled to at most the geometric mean of all worlds' lengths.

    A stiff contact makes the derivatives of a few worlds hundreds of times longer than those of the others. Without a
    bound these few would decide the direction of the step. ``derivative`` is this device's, arrays
    [blocks, T, B, ...].
    """
    length = jnp.sqrt(sum(jnp.square(x).sum((1, -1)) for x in derivative.by_outputs))  # [blocks, B]
    counts = length > 0  # a world that is left out has length 0
    log_length = jnp.where(counts, jnp.log(jnp.where(counts, length, 1)), 0)
    log_sum, number = devices.sum(jnp.stack([log_length.sum(), counts.sum().astype(length.dtype)]))
    mean = jnp.exp(log_sum / jnp.maximum(number, 1))
    share = jnp.where(counts, jnp.minimum(1, mean / jnp.where(counts, length, 1)), 1)[:, None, :, None]
    return replace(derivative, by_outputs=tuple(x * share for x in derivative.by_outputs))


def objective_of_steps(
    reward: Array,
    terminated: Array,
    truncated: Array,
    final_value: Array,
    last_value: Array,
    taken: Array,
    gamma: float | Array,
) -> Array:
    """What each of T steps of B worlds adds to the objective, [T, B].

    Args:
        reward: [T, B].
        terminated: the task ended the episode at this step, [T, B] bool.
        truncated: the time limit ended the episode at this step, [T, B] bool.
        final_value: value of the true last observation where ``truncated``, in units of the reward, [T, B].
        last_value: value of the observation after the last step, in the same units, [B]. It counts where the last step
            has not ended an episode.
        taken: false where no step was taken, [T, B] bool; such steps are the last ones.
        gamma: discount per step.
    """
    ended = terminated | truncated

    def forward(discount: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, ended, truncated, final_value, taken = step
        added = discount * jnp.where(taken, reward + jnp.where(truncated, gamma * final_value, 0), 0)
        following = jnp.where(ended, 1, gamma * discount)
        return jnp.where(taken, following, discount), added

    steps = reward, ended, truncated, final_value, taken
    discount, added = lax.scan(forward, jnp.ones_like(reward[0]), steps)
    # Where the last step taken ended an episode, the next one's value does not depend on the actions.
    open_end = jnp.where((ended & taken)[-1], 0, discount * last_value)
    return added.at[-1].add(open_end)
