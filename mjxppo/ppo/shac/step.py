"""The step of SHAC: one Adam step of the policy along the objective's gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.ppo import losses
from mjxppo.ppo.gradient import Algorithm, StepMetrics, StepSettings, adam_step
from mjxppo.ppo.networks import Params, apply_policy, is_actor, parameter_bounds
from mjxppo.ppo.shac.horizon import HorizonDerivative

Array = jax.Array


def analytic_step(
    algorithm: Algorithm,
    opt_state: Any,
    params: Params,
    samples: losses.Samples,
    derivative: HorizonDerivative,
    settings: StepSettings,
) -> tuple[Params, Any, StepMetrics, dict[str, Array]]:
    """Takes one step of the policy that increases the objective, divided by the steps that it is a sum over.

    ``samples`` and ``derivative`` are this device's, arrays [blocks, T, B, ...]. The policy stays where the gradient is
    not finite, which is counted as a skipped step, as where no world is left. Returns the parameters and the
    optimiser's state after the step, metrics [], and those that other algorithms do not have, each [].
    """
    devices, network = algorithm.devices, algorithm.network
    flat, unravel = ravel_pytree(params)
    count = jnp.maximum(devices.mean(derivative.kept.sum().astype(flat.dtype)), 1e-6)

    def of_block(block: tuple[losses.Samples, HorizonDerivative]) -> tuple[Array, Array]:
        given, own = block
        outputs, pull = jax.vjp(lambda p: apply_policy(network, unravel(p), given.obs, given.mask), flat)
        std = network.head.std(outputs)
        assert std is not None, "choices are refused"
        return pull(own.by_outputs)[0], jnp.stack([own.objective.sum(), (std * own.kept).sum()])

    sums = _sum_over_blocks(algorithm, of_block, (samples, derivative))
    gradient, (objective, std) = devices.mean(sums)
    gradient, objective, std = gradient / count, objective / count, std / count
    left_out = devices.sum(derivative.left_out.sum())
    any_kept = count >= 0.5 / devices.count
    frozen = ~ravel_pytree(is_actor(params))[0]
    if settings.policy_learns is not None:
        frozen |= ~settings.policy_learns
    bounds = tuple(ravel_pytree(bound)[0] for bound in parameter_bounds(params, settings.min_log_std))
    carry, rate = (flat, opt_state), settings.learning_rate
    (flat, opt_state), norm, finite = adam_step(
        algorithm.ppo, carry, -gradient, rate, (bounds[0], bounds[1]), frozen, any_kept
    )
    zero = jnp.zeros_like(objective)
    metrics = StepMetrics(
        terms=losses.LossTerms(policy_loss=-objective, value_loss=zero, approx_kl=zero, clip_fraction=zero, std=std),
        grad_norm=jnp.where(finite, norm, 0),
        skipped=~finite | (~any_kept & (left_out > 0)),
        taken=(any_kept | (left_out > 0)).astype(norm.dtype),
    )
    return unravel(flat), opt_state, metrics, {"nonfinite_gradients": left_out}


def _sum_over_blocks(algorithm: Algorithm, of_block: Any, blocks: Any) -> Any:
    """The results of ``of_block``, added up over this device's blocks; they may be computed all at once."""
    if not algorithm.block_by_block:
        return of_block(blocks)
    # Block by block, the working set stays in a CPU's cache.
    return jax.tree.map(lambda x: x.sum(0), lax.map(of_block, blocks))
