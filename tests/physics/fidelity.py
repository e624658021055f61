"""Prints the fidelity figures of docs/planar.md: PYTHONPATH=tests python tests/physics/fidelity.py [GENERATED_MODELS].

The planar backend against C MuJoCo, whose solver is run to convergence; errors in qvel.
"""

from __future__ import annotations

import sys
from unittest import mock

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from planar_generated import generate
from planar_models import (
    GYMNASIUM,
    c_step,
    errors,
    gymnasium_model,
    gymnasium_worlds,
    hard_worlds,
    planar_step,
    rollout_worlds,
)

import mjxppo.xla
from mjxppo.physics import solver
from mjxppo.physics.planar import PlanarPhysics
from mjxppo.physics.planar.problem import build_problem


def relative_error(model: mujoco.MjModel, worlds) -> float:
    """The largest error of one step in float64, relative where velocities exceed 1."""
    expected = c_step(model, worlds, 1)[1]
    error = np.abs(planar_step(model, worlds, 1)[1] - expected).max(axis=1)
    return float((error / np.maximum(1.0, np.abs(expected).max(axis=1))).max())


def shares_unsolved(name: str, worlds) -> dict[int, float]:
    """By number of Newton steps, the share of worlds whose acceleration more steps would still change."""
    model = PlanarPhysics(gymnasium_model(name)).compiled

    @jax.jit
    def accelerations(most_steps, state, ctrl):
        qpos, qvel, start, ctrl = (list(x.T) for x in (state.qpos, state.qvel, state.qacc_warmstart, ctrl))
        problem = build_problem(model, qpos, qvel, ctrl)
        with mock.patch.object(solver, "MAX_STEPS", most_steps):
            return jnp.stack(solver.minimize(model, problem, start))

    solved = accelerations(solver.MAX_STEPS, *worlds.state())
    steps = range(solver.FIXED_STEPS, 12)
    return {k: float(jnp.mean((accelerations(k, *worlds.state()) != solved).any(axis=0))) for k in steps}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    mjxppo.xla.enable_compilation_cache()
    print("float64, one physics step, largest error:")
    for name in GYMNASIUM:
        model = gymnasium_model(name)
        rollouts, hard = gymnasium_worlds(name, 2000), hard_worlds(model, 2000)
        print(f"  {name}: {errors(model, rollouts, 1).max():.1e} on rollouts, {errors(model, hard, 1).max():.1e} hard")
    print("float32, one environment step of 10 000 states of rollouts:")
    for name, frame_skip in GYMNASIUM.items():
        error = errors(gymnasium_model(name), gymnasium_worlds(name, 10_000), frame_skip, jnp.float32)
        print(f"  {name}: largest {error.max():.1e}, median {np.median(error):.1e}, above 1e-2: {np.sum(error > 1e-2)}")
    print("float32, share of worlds that need more Newton steps than:")
    for name in GYMNASIUM:
        for kind, worlds in (
            ("rollouts", gymnasium_worlds(name, 20_000)),
            ("hard", hard_worlds(gymnasium_model(name), 5000)),
        ):
            shares = {k: f"{share:.2g}" for k, share in shares_unsolved(name, worlds).items() if share}
            print(f"  {name}, {kind}: {shares}")
    worst = 0.0
    for seed in range(count):
        model = mujoco.MjModel.from_xml_string(generate(seed))
        worlds = hard_worlds(model, 256) + rollout_worlds(model, 64, steps=3)
        worst = max(worst, relative_error(model, worlds))
        jax.clear_caches()
    print(f"float64, one physics step of {count} generated models, largest relative error: {worst:.1e}")


if __name__ == "__main__":
    main()
