"""Heads: what the outputs of a policy network say about its actions, behind one interface.

``Gaussian`` has outputs (mean, log-std), each [..., A], of numbers in [-1, 1]. ``Categorical`` has (logits,), [..., sum
of categories], of choices. ``Mixed`` has (mean, log-std, logits). The batch keeps what was drawn: the number before
squashing, and the index of a category as a float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from mjxppo.envs.actions import ActionSpec
from mjxppo.ppo import distribution

Array = jax.Array
Outputs = tuple[Array, ...]
"""What a policy network gives for observations [...], see this module's docstring."""

FORBIDDEN = -1e9
"""Logit of a category that a mask forbids. Its probability is exactly 0, and every term of the losses finite."""


class Head(Protocol):
    """A distribution of actions; arrays lead with any axes [...]."""

    def noise(self, key: Array) -> Array:
        """The random numbers that one action is drawn with, [any]."""

    def sample(self, outputs: Outputs, noise: Array) -> Array:
        """What is drawn, ``u``, [..., action_size]."""

    def mode(self, outputs: Outputs) -> Array:
        """The likeliest ``u``, [..., action_size]."""

    def action(self, u: Array) -> Array:
        """The action that an environment takes, [..., action_size]."""

    def log_prob(self, u: Array, outputs: Outputs) -> Array:
        """Log-density of ``u``, before squashing, [...]."""

    def squash_log_det(self, u: Array) -> Array:
        """What squashing subtracts from the log-density, [...]."""

    def entropy(self, outputs: Outputs) -> Array:
        """Entropy before squashing (nats), exact, [...]."""

    def entropy_estimate(self, u: Array, outputs: Outputs) -> Array:
        """Entropy of the action (nats), [...]; exact for choices, an unbiased estimate from ``u`` for numbers."""

    def kl(self, outputs: Outputs, other: Outputs) -> Array:
        """KL(this || other) in nats, exact, [...]."""

    def fisher_product(self, outputs: Outputs, change: Outputs, weight: Array) -> Outputs:
        """``weight`` [..., 1] times the Fisher matrix in the outputs times ``change``."""

    def std(self, outputs: Outputs) -> Array | None:
        """Standard deviation before squashing, mean over the numbers, [...]; None where there are only choices."""

    def masked(self, outputs: Outputs, mask: Array | None) -> Outputs:
        """The outputs with categories forbidden where ``mask`` [..., sum of categories] is false; None: none is."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The tanh-squashed Gaussian of ``distribution.py``."""

    size: int
    where: Array | None = None
    """Which dimensions exist, [A] bool, where arrays are padded with others; None: all do."""

    def noise(self, key: Array) -> Array:
        return jax.random.normal(key, (self.size,))

    def sample(self, outputs: Outputs, noise: Array) -> Array:
        mean, log_std = outputs
        return mean + jnp.exp(log_std) * noise

    def mode(self, outputs: Outputs) -> Array:
        return outputs[0]

    def action(self, u: Array) -> Array:
        return jnp.tanh(u)

    def log_prob(self, u: Array, outputs: Outputs) -> Array:
        mean, log_std = outputs
        return distribution.gaussian_log_prob(u, mean, log_std, self.where)

    def squash_log_det(self, u: Array) -> Array:
        return distribution.squash_log_det(u, self.where)

    def entropy(self, outputs: Outputs) -> Array:
        return distribution.gaussian_entropy(outputs[1], self.where)

    def entropy_estimate(self, u: Array, outputs: Outputs) -> Array:
        mean, log_std = outputs
        return distribution.entropy_estimate(u, mean, log_std, self.where)

    def kl(self, outputs: Outputs, other: Outputs) -> Array:
        return distribution.gaussian_kl(*outputs, *other)

    def fisher_product(self, outputs: Outputs, change: Outputs, weight: Array) -> Outputs:
        # The matrix is diagonal: 1 / std^2 for a mean, and 2 for a log-std.
        (_, log_std), (mean_change, log_std_change) = outputs, change
        return weight * jnp.exp(-2 * log_std) * mean_change, weight * 2 * log_std_change

    def std(self, outputs: Outputs) -> Array:
        return jnp.exp(outputs[1]).mean(-1, where=self.where)

    def masked(self, outputs: Outputs, mask: Array | None) -> Outputs:
        return outputs


@dataclass(frozen=True)
class Categorical:
    """Independent choices, each among its categories with the softmax of its logits as probabilities."""

    categories: tuple[int, ...]

    def noise(self, key: Array) -> Array:
        return jax.random.gumbel(key, (sum(self.categories),))

    def sample(self, outputs: Outputs, noise: Array) -> Array:
        # The largest of logits plus Gumbel noise has the softmax's distribution (Gumbel 1954).
        return self.mode((outputs[0] + noise,))

    def mode(self, outputs: Outputs) -> Array:
        parts = distribution.per_choice(outputs[0], self.categories)
        return jnp.stack([part.argmax(-1) for part in parts], axis=-1).astype(outputs[0].dtype)

    def action(self, u: Array) -> Array:
        return u

    def log_prob(self, u: Array, outputs: Outputs) -> Array:
        return distribution.categorical_log_prob(u, outputs[0], self.categories)

    def squash_log_det(self, u: Array) -> Array:
        return jnp.zeros(u.shape[:-1], u.dtype)

    def entropy(self, outputs: Outputs) -> Array:
        return distribution.categorical_entropy(outputs[0], self.categories)

    def entropy_estimate(self, u: Array, outputs: Outputs) -> Array:
        return self.entropy(outputs)

    def kl(self, outputs: Outputs, other: Outputs) -> Array:
        return distribution.categorical_kl(outputs[0], other[0], self.categories)

    def fisher_product(self, outputs: Outputs, change: Outputs, weight: Array) -> Outputs:
        # For one choice with probabilities p the matrix is diag(p) - p p^T.
        changes = distribution.per_choice(change[0], self.categories)
        log_probs = distribution.categorical_log_probs(outputs[0], self.categories)
        pairs = [(jnp.exp(x), v) for x, v in zip(log_probs, changes, strict=True)]
        parts = [p * (v - (p * v).sum(-1, keepdims=True)) for p, v in pairs]
        return (weight * jnp.concatenate(parts, axis=-1),)

    def std(self, outputs: Outputs) -> None:
        return None

    def masked(self, outputs: Outputs, mask: Array | None) -> Outputs:
        if mask is None:
            return outputs
        parts = distribution.per_choice(mask, self.categories)
        allowed = jnp.concatenate([part | ~part.any(-1, keepdims=True) for part in parts], axis=-1)
        return (jnp.where(allowed, outputs[0], FORBIDDEN),)


@dataclass(frozen=True)
class Mixed:
    """Numbers and choices, independent of each other."""

    numbers: Gaussian
    choices: Categorical

    def noise(self, key: Array) -> Array:
        return jnp.concatenate([self.numbers.noise(key), self.choices.noise(jax.random.fold_in(key, 2))])

    def sample(self, outputs: Outputs, noise: Array) -> Array:
        of_numbers, of_choices = noise[..., : self.numbers.size], noise[..., self.numbers.size :]
        drawn = self.numbers.sample(outputs[:2], of_numbers), self.choices.sample(outputs[2:], of_choices)
        return jnp.concatenate(drawn, axis=-1)

    def mode(self, outputs: Outputs) -> Array:
        return jnp.concatenate([self.numbers.mode(outputs[:2]), self.choices.mode(outputs[2:])], axis=-1)

    def _split(self, u: Array) -> tuple[Array, Array]:
        return u[..., : self.numbers.size], u[..., self.numbers.size :]

    def action(self, u: Array) -> Array:
        numbers, choices = self._split(u)
        return jnp.concatenate([self.numbers.action(numbers), choices], axis=-1)

    def log_prob(self, u: Array, outputs: Outputs) -> Array:
        numbers, choices = self._split(u)
        return self.numbers.log_prob(numbers, outputs[:2]) + self.choices.log_prob(choices, outputs[2:])

    def squash_log_det(self, u: Array) -> Array:
        return self.numbers.squash_log_det(self._split(u)[0])

    def entropy(self, outputs: Outputs) -> Array:
        return self.numbers.entropy(outputs[:2]) + self.choices.entropy(outputs[2:])

    def entropy_estimate(self, u: Array, outputs: Outputs) -> Array:
        numbers, _ = self._split(u)
        return self.numbers.entropy_estimate(numbers, outputs[:2]) + self.choices.entropy(outputs[2:])

    def kl(self, outputs: Outputs, other: Outputs) -> Array:
        return self.numbers.kl(outputs[:2], other[:2]) + self.choices.kl(outputs[2:], other[2:])

    def fisher_product(self, outputs: Outputs, change: Outputs, weight: Array) -> Outputs:
        of_numbers = self.numbers.fisher_product(outputs[:2], change[:2], weight)
        return of_numbers + self.choices.fisher_product(outputs[2:], change[2:], weight)

    def std(self, outputs: Outputs) -> Array:
        return self.numbers.std(outputs[:2])

    def masked(self, outputs: Outputs, mask: Array | None) -> Outputs:
        return outputs[:2] + self.choices.masked(outputs[2:], mask)


def head_of(actions: ActionSpec) -> Head:
    """The head of a policy whose actions have these parts."""
    numbers, choices = Gaussian(actions.continuous), Categorical(actions.categories)
    if not actions.categories:
        return numbers
    return Mixed(numbers, choices) if actions.continuous else choices
