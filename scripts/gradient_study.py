"""Measures how two estimates of a smoothed objective's gradient err: on a step, on a ball thrown over a bar, on Hopper.

The objective is J(θ) = E f(θ + σ w) with normal w. The estimate of first order is the mean of f'(θ + σ w), that of
zeroth order the mean of (f(θ + σ w) - f(θ - σ w)) w / (2 σ) (Suh et al. 2022, "Do Differentiable Simulators Give Better
Policy Gradients?"). Draws gradients.png and prints its numbers as JSON.

python scripts/gradient_study.py [DIRECTORY] [--samples 8192]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.figure import Figure

from mjxppo import envs
from mjxppo.physics.base import PhysicsState

SIGMAS = (0.03, 0.06, 0.12, 0.25, 0.5)
HORIZONS = (2, 4, 8, 16, 32, 64)
HOPPER_SIGMA = 0.1
ORDERS = {"first order": "#0072B2", "zeroth order": "#D55E00"}


class Estimate(NamedTuple):
    """Mean of single-sample estimates, and the root of the sum of the variances of their components."""

    mean: np.ndarray
    std: float


def estimate_of(samples: jax.Array) -> Estimate:
    """Mean and spread of the estimates ``samples`` [S, parameters]."""
    samples = np.asarray(samples, np.float64)
    return Estimate(samples.mean(0), float(np.sqrt(samples.var(0).sum())))


def zeroth_order(
    values: Callable[[jax.Array], jax.Array], theta: jax.Array, sigma: float, noise: jax.Array
) -> jax.Array:
    """The estimate of each sample of ``noise`` [S, parameters], [..., S, parameters]; ``values`` are [..., S]."""
    differences = values(theta + sigma * noise) - values(theta - sigma * noise)
    return differences[..., None] * noise / (2 * sigma)


def estimates(
    values: Callable[[jax.Array], jax.Array], theta: jax.Array, sigma: float, samples: int, key: jax.Array
) -> dict[str, Estimate]:
    """Both estimates of the gradient at ``theta`` [parameters].

    ``values`` [S] are those of f at S points [S, parameters], each of its own point.
    """
    noise = jax.random.normal(key, (samples, theta.size))
    slopes = jax.jit(jax.grad(lambda x: values(x).sum()))(theta + sigma * noise)
    of_zeroth = jax.jit(lambda noise: zeroth_order(values, theta, sigma, noise))(noise)
    return {"first order": estimate_of(slopes), "zeroth order": estimate_of(of_zeroth)}


def step(x: jax.Array) -> jax.Array:
    """1 above 0, else 0, [S]."""
    return jnp.where(x[:, 0] > 0, 1.0, 0.0)


def thrown(x: jax.Array) -> jax.Array:
    """How far a ball flies (m) that is thrown at 5 m/s at an angle x [S, 1] (rad): it must pass a bar.

    The bar is 1 m away and 0.6 m high; a ball that does not pass it ends there.
    """
    speed, gravity, bar, height = 5.0, 9.81, 1.0, 0.6
    angle = x[:, 0]
    at_bar = bar * jnp.tan(angle) - 0.5 * gravity * (bar / (speed * jnp.cos(angle))) ** 2
    return jnp.where(at_bar > height, speed**2 * jnp.sin(2 * angle) / gravity, bar)


def smoothed_slope(values: Callable[[jax.Array], jax.Array], theta: float, sigma: float) -> float:
    """dJ/dθ by the trapezoidal rule: J'(θ) = E f(θ + σ w) w / σ."""
    w = np.linspace(-8, 8, 400_001)
    density = np.exp(-0.5 * w**2) / np.sqrt(2 * np.pi)
    f = np.asarray(values(jnp.asarray(theta + sigma * w)[:, None]), np.float64)
    return float(np.trapezoid(f * w * density, w) / sigma)


def hopper_distances(actions: jax.Array) -> jax.Array:
    """How far Hopper has moved (m) after each of ``max(HORIZONS)`` steps with the same action, [steps, S] of [S, 3].

    It starts a little above the floor, so that its foot lands within the first steps.
    """
    physics = envs.make("hopper", backend="planar").task.physics
    qpos = np.array(physics.model.qpos0, np.float32)
    qpos[1] += 0.01
    start = physics.init(jnp.tile(qpos, (len(actions), 1)), jnp.zeros((len(actions), physics.model.nv)))

    def one_step(state: PhysicsState, _: None) -> tuple[PhysicsState, jax.Array]:
        state = physics.step(state, actions)
        return state, state.qpos[:, 0]

    return lax.scan(one_step, start, None, max(HORIZONS))[1]


def measure_toy(values: Callable[[jax.Array], jax.Array], theta: float, samples: int) -> list[dict]:
    """Bias and spread of both estimates for each smoothing."""
    rows = []
    for i, sigma in enumerate(SIGMAS):
        true = smoothed_slope(values, theta, sigma)
        for order, found in estimates(values, jnp.array([theta]), sigma, samples, jax.random.key(i)).items():
            bias = abs(float(found.mean[0]) - true)
            rows.append({"order": order, "sigma": sigma, "true": true, "bias": bias, "std": found.std})
    return rows


def measure_hopper(samples: int) -> list[dict]:
    """Bias and spread of both estimates for each horizon.

    The truth is a zeroth-order mean as well, of other and four times as many samples.
    """
    theta, sigma = jnp.array([0.1, 0.1, 0.1]), HOPPER_SIGMA
    distances = jax.jit(hopper_distances)
    slopes_along = jax.jit(lambda x, direction: jax.jvp(hopper_distances, (x,), (direction,))[1])

    def from_returns(key: jax.Array) -> jax.Array:
        return zeroth_order(distances, theta, sigma, jax.random.normal(key, (samples, 3)))

    keys = jax.random.split(jax.random.key(0), 6)
    true = jnp.mean(jnp.stack([from_returns(key).mean(1) for key in keys[:4]]), 0)
    points = theta + sigma * jax.random.normal(keys[4], (samples, 3))
    slopes = jnp.stack([slopes_along(points, jnp.broadcast_to(one, points.shape)) for one in jnp.eye(3)], -1)
    rows = []
    for order, found in {"first order": slopes, "zeroth order": from_returns(keys[5])}.items():
        for horizon in HORIZONS:
            estimate, right = estimate_of(found[horizon - 1]), np.asarray(true[horizon - 1])
            bias, size = float(np.linalg.norm(estimate.mean - right)), float(np.linalg.norm(right))
            rows.append({"order": order, "horizon": horizon, "true": size, "bias": bias, "std": estimate.std})
    return rows


def draw(results: dict[str, list[dict]], path: Path) -> None:
    """One column for each problem: bias above, spread of a single sample below, both beside the size of the truth."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, len(results), sharex="col")
    for column, (title, rows) in enumerate(results.items()):
        x_name = "horizon" if "horizon" in rows[0] else "sigma"
        for panel, measure in zip(panels[:, column], ("bias", "std"), strict=True):
            for order, colour in ORDERS.items():
                own = [row for row in rows if row["order"] == order]
                x, y = [row[x_name] for row in own], [row[measure] for row in own]
                panel.plot(x, y, "o-", color=colour, linewidth=2, markersize=4, label=order)
            size = [row["true"] for row in own]
            panel.plot(x, size, "--", color="#666666", linewidth=1.5, label="size of the true gradient")
            panel.set_xscale("log")
            panel.set_yscale("symlog", linthresh=1e-3)
            panel.set_ylim(0, 3 * max(row[key] for row in rows for key in (measure, "true")))
            panel.spines[["top", "right"]].set_visible(False)
            ticks = sorted({row[x_name] for row in rows})
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
        panels[0, column].set_title(title, fontsize=10)
        panels[1, column].set_xlabel("steps" if x_name == "horizon" else "smoothing σ")
    panels[0, 0].set_ylabel("error of the mean")
    panels[1, 0].set_ylabel("standard deviation of one sample")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", default=".", type=Path)
    parser.add_argument("--samples", type=int, default=8192, help="of each estimate (default %(default)s)")
    arguments = parser.parse_args()
    results = {
        "a step": measure_toy(step, 0.1, arguments.samples),
        "a ball that must pass a bar": measure_toy(thrown, 0.8, arguments.samples),
        f"Hopper through contact, σ = {HOPPER_SIGMA}": measure_hopper(arguments.samples),
    }
    arguments.directory.mkdir(parents=True, exist_ok=True)
    draw(results, arguments.directory / "gradients.png")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
