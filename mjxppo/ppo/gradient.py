"""The gradient steps of an update: epochs of minibatches, and one Adam step for each minibatch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import (
    CriticConfig,
    InitConfig,
    PolicyConfig,
    PpoConfig,
    ReinforceConfig,
    ShacConfig,
    TrpoConfig,
    minibatches_per_epoch,
)
from mjxppo.ppo import fused, losses, minibatch, packing
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.networks import ActorCritic, Params, is_actor, parameter_bounds
from mjxppo.ppo.normalize import EPSILON

Array = jax.Array
T = TypeVar("T")

MOST_SHARES = 64
"""Shares of a minibatch whose gradients are computed at the same time, at most: each needs memory for a gradient."""

Carry = tuple[Array, Any]
"""Flat parameters and the optimiser's state."""


class Algorithm(NamedTuple):
    """Networks, settings and devices, which are the same in all updates."""

    network: ActorCritic
    policy: PolicyConfig
    ppo: PpoConfig
    devices: Devices
    init: InitConfig = InitConfig()
    imitate: bool = False
    """Whether the policy imitates a teacher, instead of maximising the return."""
    block_by_block: bool = True
    """Whether the values of a batch are computed a block of worlds at a time, see ``placement.Layout``."""
    fused: fused.Mode = "off"
    """Whether gradients are computed by one GPU kernel, where it takes the networks, see ``fused.supports``."""
    critic: CriticConfig | None = None
    """Steps of the critic alone, after those of the policy; None: it learns together with the policy."""
    reinforce: ReinforceConfig | None = None
    """The returns of whole episodes; None: advantages are generalised advantage estimates."""
    trpo: TrpoConfig | None = None
    """The natural-gradient step that takes the place of the policy's gradient steps, if any."""
    shac: ShacConfig | None = None
    """The target critic of steps along the derivative of the rollout, which take the place of the policy's."""
    critic_only: bool = False
    """Whether the loss is that of the values alone."""


class StepSettings(NamedTuple):
    """Numbers that all gradient steps of one update share, each []."""

    learning_rate: Array
    min_log_std: Array
    policy_learns: Array | None
    """False while only the critic learns; None in runs in which the policy always learns."""
    kl_penalty: Array
    reference_coef: Array


@flax.struct.dataclass
class StepMetrics:
    """Measurements of one gradient step, each []; of several steps, with their axes in front."""

    terms: losses.LossTerms
    grad_norm: Array
    skipped: Array
    """1 where the gradient was not finite and no step was taken, else 0."""
    taken: Array
    """1, or 0 where the step budget left the minibatch without samples, or ``max_kl`` has stopped the steps."""

    def mean(self, x: Array) -> Array:
        """Mean over the gradient steps that had samples."""
        return (x * self.taken).sum() / jnp.maximum(self.taken.sum(), 1)


def optimizer(config: PpoConfig) -> optax.GradientTransformation:
    """Clipping to a global norm, and Adam's direction; the step size is applied in ``adam_step``."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(config.adam_b1, config.adam_b2, config.adam_eps),
    )


def gradient_steps(
    algorithm: Algorithm, opt_state: Any, params: Params, samples: losses.Samples, key: Array, settings: StepSettings
) -> tuple[Params, Any, StepMetrics]:
    """Takes all gradient steps of an update.

    ``samples`` are this device's, arrays [blocks, T, B, ...]; ``opt_state`` is the optimiser's, over the flat
    parameters; ``key`` is the same on all devices. Returns the parameters and the optimiser's state after the last
    step, and metrics [num_epochs, minibatches].
    """
    config, devices = algorithm.ppo, algorithm.devices
    blocks, steps, size = samples.advantage.shape
    minibatches, parts = minibatches_per_epoch(config), config.num_microbatches
    per_step = minibatch.slices_per_step(steps, size, minibatches * parts)
    assert per_step is not None, "checked when the config was read"
    slices = jax.tree.map(lambda x: minibatch.to_slices(x, per_step), samples)
    # One flat vector: one reduction over devices and one fused Adam step, instead of one for each weight matrix.
    flat_params, unravel = ravel_pytree(params)
    gradient_step = _gradient_step(algorithm, params, unravel, slices, settings)

    draw = partial(
        minibatch.draw,
        first_block=devices.index() * blocks,
        blocks=blocks,
        slices_per_block=steps * per_step,
        num_minibatches=minibatches * parts,
    )
    epoch_keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(config.num_epochs))
    chosen = jax.vmap(draw)(epoch_keys).reshape(config.num_epochs, minibatches, parts, -1)
    counts = jnp.maximum(devices.mean(slices.valid.sum(-1)[chosen].sum((-2, -1))), 1e-6)
    scan = lax.scan if algorithm.block_by_block else packing.scan

    def take(carry: Carry, drawn: tuple[Array, Array]) -> tuple[Carry, StepMetrics]:
        carry, metrics = scan(gradient_step, carry, drawn)
        # Each reduction makes the devices wait for each other, so the terms are not reduced in every step.
        return carry, replace(metrics, terms=devices.mean(metrics.terms))

    carry, epochs = (flat_params, opt_state), (chosen, counts)
    all_steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), epochs)
    if config.max_kl > 0 and config.kl_stop == "step":

        def take_one(carry: Carry, drawn: tuple[Array, Array]) -> tuple[Carry, StepMetrics]:
            carry, metrics = gradient_step(carry, drawn)
            return carry, replace(metrics, terms=devices.mean(metrics.terms))

        exceeded = lambda metrics: metrics.terms.approx_kl > config.max_kl  # noqa: E731
        # A branch waits for the host, on a GPU for as long as the step takes that it would leave out.
        carry, metrics = _until(exceeded, take_one, carry, all_steps, branch=algorithm.block_by_block)
    elif config.max_kl > 0:
        exceeded = lambda metrics: metrics.mean(metrics.terms.approx_kl) > config.max_kl  # noqa: E731
        carry, metrics = _until(exceeded, take, carry, epochs, branch=True)
    else:
        carry, metrics = take(carry, all_steps)
    metrics = jax.tree.map(lambda x: x.reshape(config.num_epochs, minibatches), metrics)
    return unravel(carry[0]), carry[1], metrics


def _until(
    exceeded: Callable[[StepMetrics], Array],
    take: Callable[[Carry, tuple[Array, Array]], tuple[Carry, StepMetrics]],
    carry: Carry,
    drawn: tuple[Array, Array],
    branch: bool,
) -> tuple[Carry, StepMetrics]:
    """``take`` of one element of ``drawn`` after the other, until the metrics of one have ``exceeded`` the limit.

    The metrics of those that are left out are 0, and so is ``taken``. With ``branch`` they are not computed, else
    computed and discarded.
    """
    shapes = jax.eval_shape(take, carry, jax.tree.map(lambda x: x[0], drawn))[1]
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def maybe(state: tuple[Carry, Array], drawn: tuple[Array, Array]) -> tuple[tuple[Carry, Array], StepMetrics]:
        carry, stopped = state
        if branch:
            carry, metrics = lax.cond(stopped, lambda: (carry, none), lambda: take(carry, drawn))
        else:
            kept = partial(jax.tree.map, partial(jnp.where, stopped))
            carry, metrics = kept((carry, none), take(carry, drawn))
        return (carry, stopped | exceeded(metrics)), metrics

    (carry, _), metrics = (lax.scan if branch else packing.scan)(maybe, (carry, jnp.array(False)), drawn)
    return carry, metrics


def _gradient_step(
    algorithm: Algorithm,
    params: Params,
    unravel: Callable[[Array], Params],
    slices: losses.Samples,
    settings: StepSettings,
) -> Callable[[Carry, tuple[Array, Array]], tuple[Carry, StepMetrics]]:
    """The function that takes one gradient step.

    Its second argument is one minibatch: indices of its slices [parts, ...], and the number of its valid samples
    divided by the number of devices, [].
    """
    config, devices = algorithm.ppo, algorithm.devices
    lower, upper = (ravel_pytree(bound)[0] for bound in parameter_bounds(params, settings.min_log_std))
    frozen = None
    if settings.policy_learns is not None:
        frozen = ravel_pytree(is_actor(params))[0] & ~settings.policy_learns

    of_minibatch = config.advantage_normalization == "minibatch"
    by_hand = algorithm.fused != "off" and not algorithm.imitate and not algorithm.critic_only
    in_kernel = by_hand and fused.supports(algorithm.network, slices)
    rows, width = fused.to_rows(slices) if in_kernel else slices, slices.valid.shape[1]

    def gradient_step(carry: Carry, drawn: tuple[Array, Array]) -> tuple[Carry, StepMetrics]:
        chosen, count = drawn
        moments = _advantage_moments(slices, chosen, count, devices) if of_minibatch else None

        def by_kernel(chosen: Array) -> tuple[Array, losses.LossTerms]:
            step = fused.Step(count, settings.kl_penalty, *(moments or ()))
            interpret = algorithm.fused == "interpreted"
            return fused.gradient(carry[0], algorithm.network, params, rows, width, chosen, step, config, interpret)

        def by_autodiff(chosen: Array) -> tuple[Array, losses.LossTerms]:
            part = jax.tree.map(lambda x: x[chosen].reshape(-1, *x.shape[2:]), slices)
            if moments is not None:
                part = replace(part, advantage=(part.advantage - moments[0]) * moments[1])

            def objective(flat: Array) -> tuple[Array, losses.LossTerms]:
                if algorithm.critic_only:
                    return losses.critic_loss(unravel(flat), algorithm.network, part, count, config)
                coefficients = settings.kl_penalty, settings.reference_coef, algorithm.imitate
                return losses.loss(unravel(flat), algorithm.network, part, count, config, *coefficients)

            return jax.grad(objective, has_aux=True)(carry[0])

        by_xla = by_autodiff if algorithm.block_by_block else _in_shares(by_autodiff)
        gradient, terms = _sum_of_parts(by_kernel if in_kernel else by_xla, chosen)
        gradient, wanted = devices.mean(gradient), count >= 0.5 / devices.count
        if config.max_kl > 0 and config.kl_stop == "step":
            wanted &= ~(devices.mean(terms.approx_kl) > config.max_kl)
        rate, bounds = settings.learning_rate, (lower, upper)
        carry, norm, finite = adam_step(config, carry, gradient, rate, bounds, frozen, wanted)
        norm = jnp.where(finite, norm, 0)
        return carry, StepMetrics(terms=terms, grad_norm=norm, skipped=~finite, taken=wanted.astype(norm.dtype))

    return gradient_step


def _sum_of_parts(of_part: Callable[[Array], T], parts: Array) -> T:
    """``of_part`` of each part, [parts, ...], added up one after the other, so that only one needs memory at a time."""
    if parts.shape[0] == 1:
        return of_part(parts[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_part, parts[0]))
    total: T = lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, of_part(part)), None), zeros, parts)[0]
    return total


def _in_shares(of_part: Callable[[Array], T]) -> Callable[[Array], T]:
    """``of_part``, which takes indices of a part's slices [S], as the sum over shares of it, computed at the same time.

    A GPU sums over many samples in two steps, within groups of them and over the groups. With the shares as groups, the
    second step is one kernel for the whole gradient, instead of one for each weight matrix and each bias.
    """

    def of_shares(slices: Array) -> T:
        shares = max(n for n in range(1, MOST_SHARES + 1) if slices.size % n == 0)
        each = jax.vmap(of_part)(slices.reshape(shares, -1))
        total: T = jax.tree.map(lambda x: x.sum(0), each)
        return total

    return of_shares


def _advantage_moments(slices: losses.Samples, chosen: Array, count: Array, devices: Devices) -> tuple[Array, Array]:
    """A minibatch's mean advantage, and one over the standard deviation, each []; ``count`` as in ``loss``."""
    advantage, valid = slices.advantage[chosen], slices.valid[chosen]

    def average(x: Array) -> Array:
        return devices.mean((x * valid).sum() / count)

    mean = average(advantage)
    return mean, lax.rsqrt(average(jnp.square(advantage - mean)) + EPSILON)


def adam_step(
    config: PpoConfig,
    carry: Carry,
    gradient: Array,
    learning_rate: Array,
    bounds: tuple[Array, Array],
    frozen: Array | None,
    wanted: Array,
) -> tuple[Carry, Array, Array]:
    """One Adam step on the flat parameters [P]; none where the gradient [P] is not finite, or not ``wanted`` [].

    No parameter leaves its ``bounds``, each [P]; those that are ``frozen`` ([P] bool; None: none) keep their values.
    Returns the parameters and the optimiser's state, the gradient's norm [], and whether the gradient is finite, []
    bool.
    """
    flat, opt_state = carry
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    # Gradients of frozen parameters enter Adam's moments, too: otherwise the moments would stay 0 while the step count,
    # which corrects for that, rises, and these parameters' first steps would be several times too large.
    direction, stepped = optimizer(config).update(gradient, opt_state)
    stepped_flat = jnp.clip(flat - learning_rate * direction, *bounds)
    if frozen is not None:
        stepped_flat = jnp.where(frozen, flat, stepped_flat)
    keep = lambda new, old: jnp.where(finite & wanted, new, old)  # noqa: E731
    return (keep(stepped_flat, flat), jax.tree.map(keep, stepped, opt_state)), norm, finite
