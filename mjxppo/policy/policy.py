"""A trained policy as plain NumPy: deterministic, with its observation normaliser; needs no JAX to act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mjxppo.config.schema import Activation, Config
from mjxppo.errors import UserError

ActFunction = Callable[[np.ndarray], np.ndarray]
"""A policy as a function: actions [N, action_size] for observations [N, obs_size]."""

_ACTOR = "learner/params/params/actor/mlp"
"""Path of the policy network among a checkpoint's named arrays."""


def _silu(x: np.ndarray) -> np.ndarray:
    # By tanh, which does not overflow: sigmoid(x) = (1 + tanh(x / 2)) / 2.
    return x * 0.5 * (1 + np.tanh(0.5 * x))


_ACTIVATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": _silu,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


@dataclass(frozen=True)
class Policy:
    """``tanh(mean)`` of the policy network, as a function of raw observations.

    A policy with a ``history`` needs the past of its episode: call ``act = policy.begin()`` at the episode's start,
    then ``act(obs)``.
    """

    obs_mean: np.ndarray
    """Mean of the network's inputs, [inputs]."""
    obs_scale: np.ndarray
    """Factor on the centred inputs, [inputs]."""
    obs_clip: float
    """Largest absolute value of a normalised input; infinite where inputs are not normalised."""
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Weights [inputs, outputs] and biases [outputs] of each layer, the head last."""
    activation: Activation
    history: int = 1
    """Number of observations among the network's inputs: ``[o[t], a[t-1], o[t-1], ...]``."""
    privileged: bool = False
    """Whether the inputs contain privileged observations; the policy can then act in simulation only."""

    @property
    def inputs(self) -> int:
        """Length of the network's input."""
        return self.layers[0][0].shape[0]

    @property
    def obs_size(self) -> int:
        """Length of an observation."""
        return (self.inputs + self.action_size) // self.history - self.action_size

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return self.layers[-1][0].shape[1]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [..., action_size] float32, for observations [..., obs_size].

        Raises:
            ValueError: the policy has a ``history``; use ``begin``.
        """
        if self.history > 1:
            raise ValueError("this policy has a history: act = policy.begin() at an episode's start, then act(obs)")
        return self.of_inputs(obs)

    def begin(self) -> ActFunction:
        """A function of observations, to be called once a step, for one new episode or a batch of new episodes.

        Raises:
            UserError: the policy has privileged observations.
        """
        self.check_can_act_alone()
        return PolicyWithPast(self) if self.history > 1 else self

    def check_can_act_alone(self) -> None:
        """Raises UserError where the policy has privileged observations, which only the simulation can give."""
        if self.privileged:
            raise UserError(
                "policy.privileged: this policy observes what only the simulation knows; mjxppo distill trains one "
                "that does not, mjxppo evaluate --engine own --as-trained evaluates it in the worlds of its training"
            )

    def of_inputs(self, obs: np.ndarray) -> np.ndarray:
        """Actions [..., action_size] for the network's inputs [..., inputs]."""
        if np.shape(obs)[-1:] != (self.inputs,):
            raise ValueError(f"observations must be [..., {self.inputs}], not {list(np.shape(obs))}")
        # Centred in the observation's own precision, so that large offsets do not cost float32 digits.
        x = np.clip((np.asarray(obs) - self.obs_mean) * self.obs_scale, -self.obs_clip, self.obs_clip)
        x = x.astype(np.float32)
        for weight, bias in self.layers[:-1]:
            x = _ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = self.layers[-1]
        return np.tanh(x @ weight + bias)


class PolicyWithPast:
    """A policy together with the past observations and actions of the episodes that it acts in."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self._past: np.ndarray | None = None

    def __call__(self, obs: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Actions [..., action_size] for the next observations [..., obs_size].

        They are of the same worlds in the same order at each call. ``first`` [...] bool is true where an episode begins
        with this observation; default: in the first call only.
        """
        policy, obs = self.policy, np.asarray(obs)
        if obs.shape[-1:] != (policy.obs_size,):
            raise ValueError(f"observations must be [..., {policy.obs_size}], not {list(obs.shape)}")
        no_action = np.zeros((*obs.shape[:-1], policy.action_size), obs.dtype)
        initial = np.concatenate([no_action, obs] * (policy.history - 1), axis=-1)
        past = initial if self._past is None else self._past
        if first is not None:
            past = np.where(np.asarray(first)[..., None], initial, past)
        action = policy.of_inputs(np.concatenate([obs, past], axis=-1))
        self._past = np.concatenate([action, obs, past], axis=-1)[..., : past.shape[-1]]
        return action


def begin_episode(policy: ActFunction) -> ActFunction:
    """The function to call at each step of a new episode: ``policy.begin()`` of a ``Policy``, else ``policy``."""
    return policy.begin() if isinstance(policy, Policy) else policy


def from_checkpoint(arrays: Mapping[str, np.ndarray], config: Config) -> Policy:
    """Builds the deterministic policy from a checkpoint's named arrays (``checkpoint.read``)."""
    from mjxppo.ppo.normalize import EPSILON, OBS_CLIP  # imports JAX, which an exported policy does not need

    hidden = [f"{_ACTOR}/hidden_{i}" for i in range(len(config.policy.hidden_sizes))]
    layers = [(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in (*hidden, f"{_ACTOR}/head")]
    if config.policy.std == "state_dependent":  # the head's second half is the standard deviation
        weight, bias = layers[-1]
        size = weight.shape[1] // 2
        layers[-1] = (weight[:, :size], bias[:size])
    inputs = layers[0][0].shape[0]
    mean, var = (arrays[f"learner/obs_moments/{name}"][:inputs] for name in ("mean", "var"))
    clip, scale = OBS_CLIP, (1 / np.sqrt(var + np.float32(EPSILON))).astype(np.float32)
    if not config.ppo.normalize_obs:
        mean, clip, scale = np.zeros_like(mean), float("inf"), np.ones_like(mean)
    own = config.policy
    return Policy(mean, scale, clip, tuple(layers), own.activation, own.history, own.privileged == "both")
