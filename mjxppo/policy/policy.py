"""A trained policy as plain NumPy: deterministic, with its observation normaliser; needs no JAX to act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mjxppo.config.schema import Activation, Config
from mjxppo.envs.actions import ActionSpec
from mjxppo.errors import UserError

ActFunction = Callable[..., Any]
"""A policy as a function: actions [N, action_size] for observations [N, obs_size].

Actions with choices have the environment's form, see ``ActionSpec.decode``. Where the environment gives masks, they are
the argument ``mask``."""

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


@dataclass(frozen=True, repr=False)
class Policy:
    """The likeliest action of the policy network, as a function of raw observations.

    Numbers are ``tanh(mean)``; of each choice it is the category with the largest logit. A policy with a ``history``
    needs the past of its episode: call ``act = policy.begin()`` at the episode's start, then ``act(obs)``.
    """

    obs_mean: np.ndarray
    """Mean of the network's inputs, [inputs]."""
    obs_scale: np.ndarray
    """Factor on the centred inputs, [inputs]."""
    obs_clip: float
    """Largest absolute value of a normalised input; infinite where inputs are not normalised."""
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Weights [inputs, outputs] and biases [outputs] of each layer, the head last: means, then logits."""
    activation: Activation
    history: int = 1
    """Number of observations among the network's inputs: ``[o[t], a[t-1], o[t-1], ...]``."""
    privileged: bool = False
    """Whether the inputs contain privileged observations; the policy can then act in simulation only."""
    spec: ActionSpec | None = None
    """The parts of an action; None: numbers alone, one for each output."""

    @property
    def actions(self) -> ActionSpec:
        """The parts of an action."""
        return self.spec or ActionSpec(self.layers[-1][0].shape[1])

    def __post_init__(self) -> None:
        """Raises UserError where a number is not finite: every action would be NaN, or as good as constant."""
        arrays = {"obs_mean": self.obs_mean, "obs_scale": self.obs_scale}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
        wrong = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
        if wrong is None and np.isnan(self.obs_clip):
            wrong = "obs_clip"
        if wrong is not None:
            raise UserError(f"policy: {wrong} holds numbers that are not finite")

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
        """Length of an action, as a vector."""
        return self.actions.size

    def __call__(self, obs: np.ndarray, first: np.ndarray | None = None, mask: Any = None) -> Any:
        """Actions in [-1, 1], [..., action_size] float32, for observations [..., obs_size].

        Actions with choices have the form that the environment takes: integers [...] for one choice, a ``dict`` where
        it takes one. ``mask`` is the environment's ``info["action_mask"]``, if it gives one. ``first`` is taken as by a
        policy with a history (``PolicyWithPast``), and has no effect here.

        Raises:
            ValueError: the policy has a ``history``, use ``begin``; or the mask does not fit the actions.
        """
        if self.history > 1:
            raise ValueError("this policy has a history: act = policy.begin() at an episode's start, then act(obs)")
        return self.actions.decode(self.of_inputs(obs, mask))

    def __repr__(self) -> str:
        sizes = [self.inputs, *(bias.shape[0] for _, bias in self.layers)]
        past = f", history {self.history}" if self.history > 1 else ""
        return f"Policy({' -> '.join(map(str, sizes))}, {self.activation}{past}{', privileged' * self.privileged})"

    def predict(
        self,
        observation: np.ndarray,
        state: PolicyWithPast | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, PolicyWithPast | None]:
        """As ``predict`` of Stable-Baselines3: actions [..., action_size], and the state for the next call.

        The state is None, except for a policy with a ``history``: pass it on, None at the start. ``episode_start``
        [...] bool is true where an episode begins with this observation.

        Raises:
            ValueError: ``deterministic`` is false; the policy has no other actions.
        """
        if not deterministic:
            raise ValueError("deterministic: this policy has deterministic actions only")
        if self.history == 1:
            return self(observation), None
        self.check_can_act_alone()
        past = PolicyWithPast(self) if state is None else state
        return past(observation, None if state is None else episode_start), past

    def begin(self, vectors: bool = False) -> ActFunction:
        """A function of observations, to be called once a step, for one new episode or a batch of new episodes.

        ``vectors`` leaves its actions vectors [..., action_size], as an ``Environment`` of this package takes them.

        Raises:
            UserError: the policy has privileged observations.
        """
        self.check_can_act_alone()
        if self.history > 1:
            return PolicyWithPast(self, vectors)
        return self.of_inputs if vectors else self

    def check_can_act_alone(self) -> None:
        """Raises UserError where the policy has privileged observations, which only the simulation can give."""
        if self.privileged:
            raise UserError(
                "policy.privileged: this policy observes what only the simulation knows; mjxppo distill trains one "
                "that does not, mjxppo evaluate --engine own --as-trained evaluates it in the worlds of its training"
            )

    def of_inputs(self, obs: np.ndarray, mask: Any = None) -> np.ndarray:
        """Actions as vectors [..., action_size] for the network's inputs [..., inputs]; ``mask`` as in a call."""
        if np.shape(obs)[-1:] != (self.inputs,):
            raise ValueError(f"observations must be [..., {self.inputs}], not {list(np.shape(obs))}")
        # Centred in the observation's own precision, so that large offsets do not cost float32 digits.
        x = np.clip((np.asarray(obs) - self.obs_mean) * self.obs_scale, -self.obs_clip, self.obs_clip)
        x = x.astype(np.float32)
        for weight, bias in self.layers[:-1]:
            x = _ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = self.layers[-1]
        outputs = x @ weight + bias
        return np.tanh(outputs) if self.spec is None else likeliest(self.spec, outputs, mask)


def likeliest(spec: ActionSpec, outputs: np.ndarray, mask: Any = None) -> np.ndarray:
    """Vectors [..., action_size] of the likeliest actions, from means and logits [..., outputs].

    Of equally likely categories it is the first. A choice of which ``mask`` allows nothing is free.
    """
    logits = np.split(outputs[..., spec.continuous :], np.cumsum(spec.categories)[:-1], axis=-1)
    if mask is not None:
        allowed = np.split(spec.flat_mask(mask), np.cumsum(spec.categories)[:-1], axis=-1)
        free = [part | ~part.any(-1, keepdims=True) for part in allowed]
        logits = [np.where(may, part, -np.inf) for may, part in zip(free, logits, strict=True)]
    numbers = np.tanh(outputs[..., : spec.continuous])
    choices = [part.argmax(-1)[..., None].astype(numbers.dtype) for part in logits[: len(spec.categories)]]
    return np.concatenate([numbers, *choices], axis=-1)


class PolicyWithPast:
    """A policy together with the past observations and actions of the episodes that it acts in."""

    def __init__(self, policy: Policy, vectors: bool = False):
        self.policy = policy
        self._vectors = vectors
        self._past: np.ndarray | None = None

    def __call__(self, obs: np.ndarray, first: np.ndarray | None = None, mask: Any = None) -> Any:
        """Actions for the next observations [..., obs_size], as ``Policy`` gives them.

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
        action = policy.of_inputs(np.concatenate([obs, past], axis=-1), mask)
        self._past = np.concatenate([action, obs, past], axis=-1)[..., : past.shape[-1]]
        return action if self._vectors else policy.actions.decode(action)


def begin_episode(policy: ActFunction, vectors: bool = False) -> ActFunction:
    """The function to call at each step of a new episode: from ``policy.begin`` where it has that, else ``policy``."""
    begin: Callable[[bool], ActFunction] | None = getattr(policy, "begin", None)
    return policy if begin is None else begin(vectors)


def _spec_in(arrays: Mapping[str, np.ndarray]) -> ActionSpec | None:
    """The parts of an action that a checkpoint's arrays state, see ``Learner.actions``; raises UserError if damaged."""
    text = arrays.get("learner/actions")
    try:
        return None if text is None else ActionSpec.from_json(text.tobytes().decode())
    except ValueError as error:
        raise UserError(f"checkpoint: learner/actions is damaged: {error}") from error


def from_checkpoint(arrays: Mapping[str, np.ndarray], config: Config) -> Policy:
    """Builds the deterministic policy from a checkpoint's named arrays (``checkpoint.read``).

    Raises UserError where a number in them is not finite.
    """
    from mjxppo.ppo.normalize import EPSILON, OBS_CLIP, fading  # imports JAX, which an exported policy does not need

    hidden = [f"{_ACTOR}/hidden_{i}" for i in range(len(config.policy.hidden_sizes))]
    layers = [(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in (*hidden, f"{_ACTOR}/head")]
    spec = _spec_in(arrays)
    if config.policy.std == "state_dependent":  # beside each mean the head has an output for its standard deviation
        weight, bias = layers[-1]
        size = weight.shape[1] // 2 if spec is None else spec.continuous
        kept = np.r_[0:size, 2 * size : weight.shape[1]]
        layers[-1] = (weight[:, kept], bias[kept])
    inputs = layers[0][0].shape[0]
    mean, var = (arrays[f"learner/obs_moments/{name}"][:inputs] for name in ("mean", "var"))
    if config.ppo.normalize_obs:
        if not (np.isfinite(var) & (var >= 0)).all():
            raise UserError("policy: the variance of its observations holds numbers that are none")
        clip, scale = OBS_CLIP, (fading(var) / np.sqrt(var + np.float32(EPSILON))).astype(np.float32)
    else:
        mean, clip, scale = np.zeros_like(mean), float("inf"), np.ones_like(mean)
    own = config.policy
    return Policy(mean, scale, clip, tuple(layers), own.activation, own.history, own.privileged == "both", spec)
