"""Draws the pictures of docs/algorithms.md with the functions that training uses.

python scripts/algorithm_pictures.py [DIRECTORY]
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mjxppo.config.schema import PpoConfig
from mjxppo.ppo.gae import generalized_advantages
from mjxppo.ppo.heads import Gaussian
from mjxppo.ppo.losses import Samples, loss_of_policy

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def objective(ratio: float, advantage: float, loss: str) -> jax.Array:
    """What the policy loss gives for one sample of a policy with std 1 whose density has changed by ``ratio``."""
    one = jnp.ones((1,))
    u = jnp.zeros((1, 1))
    log_prob = -0.5 * jnp.log(2 * jnp.pi) * one - jnp.log(ratio)
    sample = Samples(u, u, log_prob, advantage * one, one, one, one)
    config = PpoConfig(loss=loss, clip_eps=0.2)
    terms = loss_of_policy(Gaussian(1), (u, u), sample, jnp.float32(1), config, jnp.float32(0))
    return -terms[0]


def draw_clipping(out: Path) -> None:
    """Objective of one sample over the ratio, for a good and for a bad action."""
    ratio = jnp.linspace(0.4, 1.7, 261)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for panel, advantage in zip(figure.subplots(1, 2), (1.0, -1.0), strict=True):
        for (loss, name), colour in zip(
            {"policy_gradient": "ratio × advantage", "clip": "clipped (PPO)"}.items(), COLOURS, strict=False
        ):
            values = jax.vmap(lambda r, a=advantage, name=loss: objective(r, a, name))(ratio)
            panel.plot(ratio, values, color=colour, linewidth=2, linestyle="--" if loss != "clip" else "-", label=name)
        panel.axvspan(0.8, 1.2, color="#999999", alpha=0.15, linewidth=0)
        panel.plot([1], [advantage], "o", color="black")
        panel.set_title(f"advantage {advantage:+.0f}: the action was {'good' if advantage > 0 else 'bad'}", fontsize=10)
        panel.set_xlabel("ratio of the action's density, new over old")
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("objective of this sample")
    figure.axes[0].legend(frameon=False, loc="upper left")
    figure.axes[0].text(1.0, 0.45, "1 ± clip_eps", ha="center", fontsize=9, color="#666666")
    figure.savefig(out / "clipping.png", dpi=120)


def draw_gae(out: Path) -> None:
    """The weights of later errors, and the advantages of one episode, for several values of lambda."""
    gamma, lambdas, steps = 0.99, (0.0, 0.8, 0.95, 1.0), 60
    noise = np.random.default_rng(0).normal(size=steps)
    # A critic that is wrong in the middle of an episode: it expects 30 too much between steps 20 and 35.
    reward = 1 + 0.3 * noise
    true = np.array([sum(gamma**k for k in range(steps - t)) for t in range(steps + 1)])
    value = true + np.where((np.arange(steps + 1) >= 20) & (np.arange(steps + 1) < 35), 30.0, 0.0)
    no = np.zeros((steps, 1), bool)
    ended = no.copy()
    ended[-1] = True
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    weights, advantages = figure.subplots(1, 2)
    for lam, colour in zip(lambdas, COLOURS, strict=True):
        weights.plot((gamma * lam) ** np.arange(steps), color=colour, linewidth=2, label=f"gae_lambda {lam:g}")
        estimate = generalized_advantages(
            reward[:, None], value[:, None], ended, no, 0 * reward[:, None], ~no, gamma=gamma, gae_lambda=lam
        )
        advantages.plot(np.asarray(estimate)[:, 0], color=colour, linewidth=1.8)
    weights.set_title("weight of the error k steps later, (gamma gae_lambda)^k", fontsize=10)
    weights.set_xlabel("k")
    weights.legend(frameon=False)
    advantages.axvspan(20, 35, color="#999999", alpha=0.15, linewidth=0)
    advantages.set_title("advantages of an episode; grey: the critic expects 30 too much", fontsize=10)
    advantages.set_xlabel("step of the episode")
    for panel in (weights, advantages):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "gae.png", dpi=120)


if __name__ == "__main__":
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    directory.mkdir(parents=True, exist_ok=True)
    draw_clipping(directory)
    draw_gae(directory)
