"""The step of TRPO: a natural gradient, scaled to a bound on the KL divergence, with a backtracking line search.

Schulman et al. 2015, https://arxiv.org/abs/1502.05477, appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.ppo import losses
from mjxppo.ppo.gradient import Algorithm, StepMetrics, StepSettings
from mjxppo.ppo.heads import Head, Outputs
from mjxppo.ppo.networks import Params, actor_of, apply_policy, parameter_bounds

Array = jax.Array
T = TypeVar("T")


class _Measured(NamedTuple):
    """Means over a batch's samples at some parameters, each []."""

    improvement: Array
    """Of the surrogate objective, the mean of ratio times advantage, over its value before the step."""
    kl: Array
    """KL(policy before the step || policy), exact."""
    terms: losses.LossTerms


def trust_region_step(
    algorithm: Algorithm, params: Params, samples: losses.Samples, settings: StepSettings
) -> tuple[Params, StepMetrics, dict[str, Array]]:
    """Takes one step of the policy whose mean KL divergence on the batch is at most ``ppo.max_kl``.

    ``samples`` are this device's, arrays [blocks, T, B, ...]; ``params`` are those that have drawn them. The policy
    stays where the gradient is not finite, or no length of the step is accepted. Returns the parameters after the step,
    metrics [], and those that other algorithms do not have, each [].
    """
    trpo = algorithm.trpo
    assert trpo is not None
    start, unravel = ravel_pytree(actor_of(params))
    lower, upper = (ravel_pytree(actor_of(bound))[0] for bound in parameter_bounds(params, settings.min_log_std))
    # A log-std that begins out of bounds, as one that is carried over may, comes back by steps.
    bounds = [jnp.minimum(lower, start), jnp.maximum(upper, start)]
    count = jnp.maximum(algorithm.devices.mean(samples.valid.sum()), 1e-6)
    mean_over = partial(_mean_over_batch, algorithm, samples)
    head = algorithm.network.head

    def policy(flat: Array, block: losses.Samples) -> Outputs:
        return apply_policy(algorithm.network, unravel(flat), block.obs, block.mask)

    def surrogate(flat: Array, block: losses.Samples) -> Array:
        return -losses.loss_of_policy(head, policy(flat, block), block, count, algorithm.ppo, jnp.float32(0))[0]

    def measure(flat: Array) -> _Measured:
        def of_block(block: losses.Samples) -> tuple[Array, Array, losses.LossTerms]:
            old, new = policy(start, block), policy(flat, block)
            kl = (head.kl(old, new) * block.valid).sum() / count
            loss, terms = losses.loss_of_policy(head, new, block, count, algorithm.ppo, jnp.float32(0))
            return -loss, kl, losses.LossTerms(value_loss=jnp.zeros_like(loss), **terms)

        value, kl, terms = mean_over(of_block)
        return _Measured(value, kl, terms)

    def fisher_product(vector: Array) -> Array:
        product = mean_over(lambda block: _fisher_product(head, policy, start, vector, block, count))
        return product + trpo.cg_damping * vector

    gradient = mean_over(lambda block: jax.grad(surrogate)(start, block))
    direction = conjugate_gradients(fisher_product, gradient, trpo.cg_steps)
    # The quadratic model of the divergence, half of direction * F * direction, reaches the bound.
    curvature = direction @ fisher_product(direction)
    scale = jnp.where(curvature > 0, jnp.sqrt(2 * algorithm.ppo.max_kl / jnp.maximum(curvature, 1e-30)), 0)
    before = measure(start)
    flat, measured, tries, accepted = _line_search(algorithm, start, scale * direction, bounds, measure, before)

    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    if settings.policy_learns is not None:
        accepted &= settings.policy_learns
    accepted &= finite
    flat = jnp.where(accepted, flat, start)
    measured = jax.tree.map(partial(jnp.where, accepted), measured, before)
    has_samples = count >= 0.5 / algorithm.devices.count
    metrics = StepMetrics(
        terms=measured.terms,
        grad_norm=jnp.where(finite, norm, 0),
        skipped=~finite,
        taken=has_samples.astype(norm.dtype),
    )
    actor = unravel(flat)["params"]["actor"]
    learned = {"params": params["params"] | {"actor": actor}}
    return learned, metrics, {"trust_region_kl": measured.kl, "line_search_tries": tries, "step_accepted": accepted}


def conjugate_gradients(product: Callable[[Array], Array], right: Array, steps: int) -> Array:
    """The approximate solution x [P] of A x = ``right`` [P] after ``steps`` steps of conjugate gradients from 0.

    ``product`` gives A v for v [P]; A is symmetric and positive definite (Hestenes and Stiefel 1952). Once the residual
    is as small as rounding allows, x stays.
    """
    enough = 1e-14 * jnp.maximum(right @ right, 1e-30)

    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, residual, direction = state
        squared = residual @ residual
        along = product(direction)
        length = squared / jnp.maximum(direction @ along, 1e-30)
        smaller = residual - length * along
        turned = smaller + (smaller @ smaller) / jnp.maximum(squared, 1e-30) * direction
        following = x + length * direction, smaller, turned
        return jax.tree.map(lambda new, old: jnp.where(squared > enough, new, old), following, state)

    solution, _, _ = lax.fori_loop(0, steps, step, (jnp.zeros_like(right), right, right))
    return solution


def _fisher_product(
    head: Head,
    policy: Callable[[Array, losses.Samples], Outputs],
    start: Array,
    vector: Array,
    block: losses.Samples,
    count: Array,
) -> Array:
    """The block's part of F v, [P], for v = ``vector`` [P] and the Fisher matrix F of the policy at ``start`` [P].

    F is the Hessian of the mean KL divergence there, J^T M J with the Jacobian J of the policy's outputs by the
    parameters. M is the Fisher matrix of its distribution in these outputs.
    """
    outputs = lambda flat: policy(flat, block)  # noqa: E731
    present, change = jax.jvp(outputs, (start,), (vector,))
    weight = (block.valid / count)[..., None]
    weighted = head.fisher_product(present, change, weight)
    product: Array = jax.vjp(outputs, start)[1](weighted)[0]
    return product


def _mean_over_batch(algorithm: Algorithm, samples: losses.Samples, of_block: Callable[[losses.Samples], T]) -> T:
    """The results of ``of_block``, a function of a block's samples, added up over the batch, mean over the devices.

    The function divides its sums over samples by their count, as in ``losses.loss``.
    """
    if not algorithm.block_by_block:
        return algorithm.devices.mean(of_block(samples))
    # Block by block, the working set stays in a CPU's cache.
    sums: T = jax.tree.map(lambda x: x.sum(0), lax.map(of_block, samples))
    return algorithm.devices.mean(sums)


def _line_search(
    algorithm: Algorithm,
    start: Array,
    full_step: Array,
    bounds: list[Array],
    measure: Callable[[Array], _Measured],
    before: _Measured,
) -> tuple[Array, _Measured, Array, Array]:
    """The longest of some fractions of ``full_step`` [P] that improves the surrogate within the bound.

    Returns the parameters [P], what was measured there, the number of steps tried, and whether one was accepted, each
    []; if none was, the last one tried.
    """
    trpo, max_kl = algorithm.trpo, algorithm.ppo.max_kl
    assert trpo is not None

    def at(tries: Array) -> tuple[Array, _Measured, Array]:
        flat = jnp.clip(start + jnp.power(trpo.backtrack_factor, tries) * full_step, *bounds)
        measured = measure(flat)
        measured = measured._replace(improvement=measured.improvement - before.improvement)
        return flat, measured, (measured.improvement > 0) & (measured.kl <= max_kl)

    def again(state: tuple[Array, tuple[Array, _Measured, Array]]) -> tuple[Array, tuple[Array, _Measured, Array]]:
        tries, _ = state
        return tries + 1, at(tries.astype(full_step.dtype))

    first = jnp.int32(1), at(jnp.zeros((), full_step.dtype))
    tries, (flat, measured, accepted) = lax.while_loop(
        lambda state: ~state[1][2] & (state[0] < trpo.backtrack_steps), again, first
    )
    return flat, measured, tries, accepted
