"""The gradient of the PPO loss from one GPU kernel, in place of XLA's dozens of small ones for each gradient step."""

from __future__ import annotations

from typing import Literal

import jax

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo import losses
from mjxppo.ppo.fused.layout import Step, layout
from mjxppo.ppo.networks import ActorCritic, Params

__all__ = ["Mode", "Step", "gradient", "mode", "supports", "to_rows"]

Array = jax.Array

Mode = Literal["off", "compiled", "interpreted"]
"""Whether gradients come from the kernel: never, on a GPU, or run by XLA on any device (for tests)."""

MAX_WIDTH = 128
"""Largest number of inputs, outputs and units of a layer: a layer's weights and their gradient have to fit beside the
samples into what a streaming multiprocessor has."""
MAX_HIDDEN_LAYERS = 3


def mode(target: str, device: str) -> Mode:
    """Whether a program for the platform ``target`` that runs on devices of the platform ``device`` has the kernel.

    A program for a GPU can run on a CPU, as tests do, but its kernels are then interpreted.
    """
    if target != "gpu":
        return "off"
    return "compiled" if device == "gpu" else "interpreted"


def supports(network: ActorCritic, samples: losses.Samples) -> bool:
    """Whether the kernel takes these networks and samples.

    It does for one to three hidden layers in each network, at most 128 inputs, units and outputs of each layer,
    float32, actions of numbers alone, and no reference policy: no imitation, no divergence from a loaded policy in the
    loss.
    """
    widths = (samples.obs.shape[-1], 2 * network.action_size, *network.hidden_sizes, *network.critic_hidden_sizes)
    depths = len(network.hidden_sizes), len(network.critic_hidden_sizes)
    return (
        samples.reference is None
        and not network.categories
        and max(widths) <= MAX_WIDTH
        and all(1 <= depth <= MAX_HIDDEN_LAYERS for depth in depths)
        and samples.obs.dtype == "float32"
        and samples.obs.size < 2**31  # its elements are counted in 32 bits
    )


def to_rows(slices: losses.Samples) -> losses.Samples:
    """Samples [slices, W, ...] as ``gradient`` takes them, [N, ...].

    To be called outside of the loop over gradient steps: where XLA holds a matrix by columns, this copies it.
    """
    rows: losses.Samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), slices)
    return rows


def gradient(
    flat: Array,
    network: ActorCritic,
    params: Params,
    rows: losses.Samples,
    width: int,
    chosen: Array,
    step: Step,
    config: PpoConfig,
    interpret: bool = False,
) -> tuple[Array, losses.LossTerms]:
    """Gradient [P] of ``losses.loss`` by the flat parameters ``flat`` [P], and its terms, for one part of a minibatch.

    ``params`` tells the parameters' order and shapes. The part's samples are the slices with indices ``chosen`` [K] of
    all samples ``rows``, arrays [N, ...]; a slice is ``width`` samples in a row. Advantages are normalised as ``step``
    says. ``interpret`` runs the kernel's operations with XLA, on any device.
    """
    # Pallas takes long to load, and only the kernel needs it.
    from mjxppo.ppo.fused.kernel import actor_critic

    places = layout(network, params, rows.obs.shape[1])
    return actor_critic(flat, network, places, rows, chosen, width, step, config, interpret)
