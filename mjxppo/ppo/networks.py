"""The actor and the critic: two separate multi-layer perceptrons, in flax."""

from __future__ import annotations

import math
from typing import Any, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from mjxppo.config.schema import Activation, Initialization, PolicyConfig, StdKind
from mjxppo.envs.actions import ActionSpec
from mjxppo.ppo.heads import Head, Outputs, head_of

Array = jax.Array
Params = Any

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "silu": nn.silu, "elu": nn.elu}
assert set(ACTIVATIONS) == set(get_args(Activation))

MAX_LOG_STD = 2.0
"""No log standard deviation is larger; squashed, a Gaussian this wide is at -1 or 1 most of the time."""
_POLICY_HEAD_SCALE = 0.01
_VALUE_HEAD_SCALE = 1.0


class Mlp(nn.Module):
    """Hidden layers and a linear head; orthogonal weights have scale sqrt(2), in the head ``head_scale``."""

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: Activation
    head_scale: float
    initialization: Initialization

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, size in enumerate(self.hidden_sizes):
            x = ACTIVATIONS[self.activation](self._dense(size, math.sqrt(2), f"hidden_{i}")(x))
        return self._dense(self.output_size, self.head_scale, "head")(x)

    def _dense(self, size: int, scale: float, name: str) -> nn.Dense:
        orthogonal = self.initialization == "orthogonal"
        init = nn.initializers.orthogonal(scale) if orthogonal else nn.initializers.lecun_normal()
        return nn.Dense(size, kernel_init=init, name=name)


class Actor(nn.Module):
    """The outputs that ``heads`` describes: mean and log standard deviation before squashing, and logits of choices.

    With a state-dependent std further outputs ``r`` give
    ``log_std = min_log_std + softplus(r + c)``, where ``c`` makes ``init_log_std`` the value at ``r = 0``: it
    approaches the floor smoothly, so that its gradient is never 0. With a state-independent std ``log_std`` is a
    parameter, which the optimiser keeps within bounds (``parameter_bounds``).
    """

    numbers: int
    hidden_sizes: tuple[int, ...]
    activation: Activation
    initialization: Initialization
    std: StdKind
    init_log_std: float
    min_log_std: float
    logits: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Outputs:
        state_dependent = self.std == "state_dependent"
        output_size = self.numbers * (2 if state_dependent else 1) + self.logits
        mlp = Mlp(self.hidden_sizes, output_size, self.activation, _POLICY_HEAD_SCALE, self.initialization, name="mlp")
        output = mlp(x)
        if not self.numbers:
            return (output,)
        choices: Outputs = ()
        if self.logits:
            output, choices = output[..., : -self.logits], (output[..., -self.logits :],)
        if state_dependent:
            mean, raw = jnp.split(output, 2, axis=-1)
            return mean, state_dependent_log_std(raw, self.init_log_std, self.min_log_std), *choices
        log_std = self.param("log_std", nn.initializers.constant(self.init_log_std), (self.numbers,))
        return output, jnp.broadcast_to(log_std, output.shape), *choices


def state_dependent_log_std(raw: Array, init_log_std: float, min_log_std: float) -> Array:
    """Log-std from the outputs that stand for it, elementwise; see ``Actor``."""
    offset = math.log(math.expm1(init_log_std - min_log_std))
    return jnp.minimum(min_log_std + nn.softplus(raw + offset), MAX_LOG_STD)


class ActorCritic(nn.Module):
    """Policy and value function of normalised observations."""

    action_size: int
    hidden_sizes: tuple[int, ...]
    critic_hidden_sizes: tuple[int, ...]
    activation: Activation
    initialization: Initialization
    std: StdKind
    init_log_std: float
    min_log_std: float
    actor_inputs: int | None = None
    """Numbers of an observation, from its beginning, that the actor takes; None: all."""
    critic_inputs: int | None = None
    """Numbers of an observation, from its beginning, that the critic takes; None: all."""
    categories: tuple[int, ...] = ()
    """Number of categories of each choice in an action."""

    def setup(self) -> None:
        layers = self.hidden_sizes, self.activation, self.initialization
        std = self.std, self.init_log_std, self.min_log_std
        self.actor = Actor(self.actions.continuous, *layers, *std, self.actions.logits)
        self.critic = Mlp(self.critic_hidden_sizes, 1, self.activation, _VALUE_HEAD_SCALE, self.initialization)

    @property
    def actions(self) -> ActionSpec:
        """The parts of an action."""
        return ActionSpec(self.action_size - len(self.categories), self.categories)

    @property
    def head(self) -> Head:
        """What the policy's outputs mean."""
        return head_of(self.actions)

    def __call__(self, x: Array) -> tuple[Outputs, Array]:
        return self.policy(x), self.value(x)

    def policy(self, x: Array) -> Outputs:
        """See ``apply_policy``."""
        return self.actor(x if self.actor_inputs is None else x[..., : self.actor_inputs])

    def value(self, x: Array) -> Array:
        """See ``apply_value``."""
        return self.critic(x if self.critic_inputs is None else x[..., : self.critic_inputs])[..., 0]


def apply_policy(network: ActorCritic, params: Params, obs: Array, mask: Array | None = None) -> Outputs:
    """The policy's outputs, see ``heads``, for observations as the networks see them [..., obs_size].

    ``mask`` [..., sum of categories] is false where a category must not be chosen; None: all may.
    """
    return network.head.masked(cast(Outputs, network.apply(params, obs, method="policy")), mask)


def apply_value(network: ActorCritic, params: Params, obs: Array) -> Array:
    """Values in units of the return normaliser, [...], for observations as the networks see them [..., obs_size]."""
    return cast(Array, network.apply(params, obs, method="value"))


def parameter_bounds(params: Params, min_log_std: Array) -> tuple[Params, Params]:
    """The least and the greatest value that each parameter may take.

    For a state-independent log-std they are ``min_log_std`` [] and ``MAX_LOG_STD``; other parameters have none.
    """

    def bound(log_std: Array | float, other: float) -> Params:
        full = lambda path, leaf: jnp.full_like(leaf, log_std if path[-1].key == "log_std" else other)  # noqa: E731
        return jax.tree_util.tree_map_with_path(full, params)

    return bound(min_log_std, -jnp.inf), bound(MAX_LOG_STD, jnp.inf)


def actor_of(params: Params) -> Params:
    """The actor's part of the parameters, enough for ``apply_policy``."""
    return {"params": {"actor": params["params"]["actor"]}}


def is_actor(params: Params) -> Params:
    """Whether each parameter is the actor's, as bools of its shape."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.full(leaf.shape, path[1].key == "actor"), params)


def rescale_value_head(params: Params, old_mean: Array, old_std: Array, new_mean: Array, new_std: Array) -> Params:
    """Changes the units of the critic's output without changing the values it stands for.

    PopArt (van Hasselt et al. 2016, https://arxiv.org/abs/1602.07714): when the statistics that returns are
    normalised with move, the head moves the other way.
    """
    critic = params["params"]["critic"]
    head = critic["head"]
    head = {
        "kernel": head["kernel"] * (old_std / new_std),
        "bias": (head["bias"] * old_std + old_mean - new_mean) / new_std,
    }
    return {"params": params["params"] | {"critic": critic | {"head": head}}}


def build(
    action_size: int, config: PolicyConfig, own_size: int | None = None, categories: tuple[int, ...] = ()
) -> ActorCritic:
    """The networks that a ``PolicyConfig`` describes.

    The first ``own_size`` numbers of an observation (None: all) are not privileged. ``categories`` are those of each
    choice in an action, of which the other numbers are continuous.
    """
    return ActorCritic(
        action_size=action_size,
        hidden_sizes=tuple(config.hidden_sizes),
        critic_hidden_sizes=tuple(config.critic_hidden_sizes or config.hidden_sizes),
        activation=config.activation,
        initialization=config.initialization,
        std=config.std,
        init_log_std=config.init_log_std,
        min_log_std=config.min_log_std,
        actor_inputs=None if config.privileged == "both" else own_size,
        critic_inputs=None if config.privileged != "none" else own_size,
        categories=categories,
    )


def init_params(network: ActorCritic, obs_size: int, key: Array) -> Params:
    """Fresh parameters, with zero biases."""
    return network.init(key, jnp.zeros((1, obs_size)))
