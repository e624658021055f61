"""A trained policy as plain NumPy: deterministic, with its observation normaliser; needs no JAX to act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mjxppo.config import Config
from mjxppo.names import Activation

_ACTOR = "learner/params/params/actor/mlp"


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
    """``tanh(mean)`` of the policy network, as a function of raw observations."""

    obs_mean: np.ndarray
    """Mean of the observations, [obs_size]."""
    obs_scale: np.ndarray
    """What centred observations are multiplied by, [obs_size]."""
    obs_clip: float
    """Normalised observations are clipped to this; infinite where they are not normalised."""
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Weights [inputs, outputs] and biases [outputs] of each layer, the head last."""
    activation: Activation

    @property
    def obs_size(self) -> int:
        """Length of an observation."""
        return self.layers[0][0].shape[0]

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return self.layers[-1][0].shape[1]

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [..., action_size] float32, for observations [..., obs_size]."""
        if np.shape(obs)[-1:] != (self.obs_size,):
            raise ValueError(f"observations must be [..., {self.obs_size}], not {list(np.shape(obs))}")
        # Centred in the observation's own precision, so that large offsets do not cost float32 digits.
        x = np.clip((np.asarray(obs) - self.obs_mean) * self.obs_scale, -self.obs_clip, self.obs_clip)
        x = x.astype(np.float32)
        for weight, bias in self.layers[:-1]:
            x = _ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = self.layers[-1]
        return np.tanh(x @ weight + bias)


def from_checkpoint(arrays: Mapping[str, np.ndarray], config: Config) -> Policy:
    """The policy in a checkpoint's named arrays (``checkpoint.read``)."""
    from mjxppo.ppo.normalize import EPSILON, OBS_CLIP

    hidden = [f"{_ACTOR}/hidden_{i}" for i in range(len(config.policy.hidden_sizes))]
    layers = [(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in (*hidden, f"{_ACTOR}/head")]
    if config.policy.std == "state_dependent":  # the head's second half is the standard deviation
        weight, bias = layers[-1]
        size = weight.shape[1] // 2
        layers[-1] = (weight[:, :size], bias[:size])
    mean, var = arrays["learner/obs_moments/mean"], arrays["learner/obs_moments/var"]
    if not config.ppo.normalize_obs:
        return Policy(np.zeros_like(mean), np.ones_like(mean), float("inf"), tuple(layers), config.policy.activation)
    scale = (1 / np.sqrt(var + np.float32(EPSILON))).astype(np.float32)
    return Policy(mean, scale, OBS_CLIP, tuple(layers), config.policy.activation)
