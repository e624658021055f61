"""Policies whose parameters differ from world to world: one network, and a perturbation for each pair of candidates.

The candidates of a pair are ``theta + sigma * epsilon`` and ``theta - sigma * epsilon``. Their layers share the product
with ``theta``'s weights, which is one for all worlds, and the noise epsilon, of which there is one for two candidates.
Noise is drawn from a key and the pair's number, again where it is needed again, instead of being stored.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mjxppo.ppo.heads import Outputs
from mjxppo.ppo.networks import ACTIVATIONS, ActorCritic, Params

Array = jax.Array


class Layer(NamedTuple):
    """An affine layer; also a change of one."""

    kernel: Array
    """[in, out]"""
    bias: Array
    """[out]"""


class Noise(Protocol):
    """The standard normal perturbations of one layer, one for each of some pairs of candidates."""

    def apply(self, x: Array) -> Array:
        """What the perturbations alone give for inputs [pairs, rows, in], [pairs, rows, out]."""

    def weighted_sum(self, weight: Array) -> Layer:
        """The sum of the perturbations, with a weight for each, [pairs]."""


@flax.struct.dataclass
class FullNoise:
    """Perturbations whose numbers are all independent."""

    kernel: Array
    """[pairs, in, out]"""
    bias: Array
    """[pairs, out]"""

    def apply(self, x: Array) -> Array:
        return jnp.einsum("pri,pio->pro", x, self.kernel) + self.bias[:, None]

    def weighted_sum(self, weight: Array) -> Layer:
        return Layer(jnp.einsum("p,pio->io", weight, self.kernel), weight @ self.bias)


@flax.struct.dataclass
class LowRankNoise:
    """Perturbations of weights that are ``left right^T / sqrt(rank)`` (Sarkar et al. 2025, arXiv 2511.16652).

    Their numbers have the mean 0, the variance 1 and no correlations, like independent ones.
    """

    left: Array
    """[pairs, in, rank]"""
    right: Array
    """[pairs, out, rank]"""
    bias: Array
    """[pairs, out]"""

    def apply(self, x: Array) -> Array:
        inner = jnp.einsum("pri,pik->prk", x, self.left) * self._scale
        return jnp.einsum("prk,pok->pro", inner, self.right) + self.bias[:, None]

    def weighted_sum(self, weight: Array) -> Layer:
        weighted = weight[:, None, None] * self._scale * self.left
        return Layer(jnp.einsum("pik,pok->io", weighted, self.right), weight @ self.bias)

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.left.shape[-1])


def draw_noise(layers: list[Layer], rank: int, key: Array, pairs: Array) -> list[Noise]:
    """The perturbations of the layers for the pairs with these numbers, [pairs]; they depend on key and number alone.

    ``rank`` is that of the weights' perturbations; 0 or one with which a layer would need no fewer numbers: full.
    """
    keys = [jax.random.fold_in(key, i) for i in range(len(layers))]
    return [_noise_of_layer(layer, rank, own, pairs) for layer, own in zip(layers, keys, strict=True)]


def _noise_of_layer(layer: Layer, rank: int, key: Array, pairs: Array) -> Noise:
    inputs, outputs = layer.kernel.shape
    normal = partial(jax.random.normal, dtype=layer.kernel.dtype)
    sizes: dict[str, tuple[int, ...]] = {"bias": (outputs,)}
    low = rank > 0 and rank * (inputs + outputs) < inputs * outputs
    sizes |= {"left": (inputs, rank), "right": (outputs, rank)} if low else {"kernel": (inputs, outputs)}

    def of_pair(pair: Array) -> dict[str, Array]:
        # One draw, in which every number is independent.
        numbers = normal(jax.random.fold_in(key, pair), (sum(map(math.prod, sizes.values())),))
        parts = jnp.split(numbers, np.cumsum([math.prod(size) for size in sizes.values()])[:-1])
        return {name: part.reshape(size) for (name, size), part in zip(sizes.items(), parts, strict=True)}

    drawn = jax.vmap(of_pair)(pairs)
    return LowRankNoise(**drawn) if low else FullNoise(**drawn)


def acting_layers(network: ActorCritic, params: Params) -> list[Layer]:
    """The layers that the likeliest action depends on, the head last: of it the means and the logits."""
    mlp = params["params"]["actor"]["mlp"]
    layers = [Layer(**mlp[name]) for name in _names(mlp)]
    kept = _acting_outputs(network)
    return [*layers[:-1], Layer(layers[-1].kernel[:, kept], layers[-1].bias[kept])]


def with_acting_layers(network: ActorCritic, params: Params, layers: list[Layer]) -> Params:
    """The parameters with the layers of ``acting_layers`` replaced."""
    actor = params["params"]["actor"]
    mlp, kept = actor["mlp"], _acting_outputs(network)
    head = mlp["head"]
    whole = Layer(head["kernel"].at[:, kept].set(layers[-1].kernel), head["bias"].at[kept].set(layers[-1].bias))
    changed = dict(zip(_names(mlp), [dict(layer._asdict()) for layer in (*layers[:-1], whole)], strict=True))
    return {"params": params["params"] | {"actor": actor | {"mlp": changed}}}


def _names(mlp: Params) -> list[str]:
    """The names of a network's layers in their order."""
    return [*(f"hidden_{i}" for i in range(len(mlp) - 1)), "head"]


def _acting_outputs(network: ActorCritic) -> np.ndarray:
    """Indices of the head's outputs without those that stand for a standard deviation."""
    numbers, logits = network.actions.continuous, network.actions.logits
    of_std = numbers if network.std == "state_dependent" else 0
    return np.r_[:numbers, numbers + of_std : numbers + of_std + logits]


def candidate_outputs(
    network: ActorCritic, layers: list[Layer], noise: list[Noise], sigma: float, obs: Array
) -> Outputs:
    """The outputs of all candidates for the observations in their worlds, as ``heads`` describes them, each [B, any].

    ``obs`` [B, obs_size] are as networks see them. Worlds lie in the order of the pairs, and of a pair half of them are
    of its first candidate, to which the noise is added; it is subtracted in the other half. The log standard deviation
    is 0: candidates act without noise.
    """
    x = obs if network.actor_inputs is None else obs[..., : network.actor_inputs]
    pairs = jax.tree.leaves(noise[0])[0].shape[0]
    rows = obs.shape[0] // pairs
    signed = jnp.where(jnp.arange(rows) < rows // 2, sigma, -sigma).astype(obs.dtype)[:, None]
    for i, (layer, own) in enumerate(zip(layers, noise, strict=True)):
        shift = signed * own.apply(x.reshape(pairs, rows, -1))
        x = x @ layer.kernel + layer.bias + shift.reshape(obs.shape[0], -1)
        if i < len(layers) - 1:
            x = ACTIVATIONS[network.activation](x)
    numbers = network.actions.continuous
    means, logits = x[:, :numbers], x[:, numbers:]
    return (*((means, jnp.zeros_like(means)) if numbers else ()), *((logits,) if network.actions.logits else ()))
