"""States that C MuJoCo visits, as initial states for measurements and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mujoco
import numpy as np

from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot import home_of

_EPISODE = {
    "half_cheetah": 100,
    "hopper": 60,
    "walker2d": 60,
    "ant": 60,
    "humanoid": 30,
    "swimmer": 100,
    "reacher": 50,
    "inverted_pendulum": 30,
    "inverted_double_pendulum": 30,
    "quadruped": 60,
}
"""Environment steps after which a rollout starts again, by task."""

_OPTIONS = {name: TASKS[name].robot.Options() for name in _EPISODE}  # type: ignore[call-arg]

FRAME_SKIP: dict[str, int] = {name: options.frame_skip for name, options in _OPTIONS.items()}
"""MuJoCo steps per environment step, by task."""

XML_FILE: dict[str, str] = {name: options.xml_file for name, options in _OPTIONS.items()}
"""Model file, by task."""

SPATIAL = ("ant", "swimmer", "reacher", "quadruped")
"""Tasks whose robots planar physics cannot represent, but spatial physics can."""
ONLY_MJX = ("humanoid",)
"""Tasks whose robots neither can."""


class States(NamedTuple):
    """States of N worlds and the controls applied in them; all float64."""

    qpos: np.ndarray
    """Positions, [N, nq]."""
    qvel: np.ndarray
    """Velocities, [N, nv]."""
    qacc_warmstart: np.ndarray
    """Accelerations from which the solver starts, [N, nv]."""
    ctrl: np.ndarray
    """Controls, [N, nu]."""


def random_states(model: mujoco.MjModel, task: str, count: int, seed: int = 0) -> States:
    """States from rollouts with uniformly random controls."""
    rng = np.random.default_rng(seed)
    return visit_states(model, task, count, rng, lambda _: rng.uniform(*model.actuator_ctrlrange.T))


def visit_states(
    model: mujoco.MjModel, task: str, count: int, rng: np.random.Generator, control: Callable[[float], np.ndarray]
) -> States:
    """Every third state of rollouts that start near the model's initial state; ``control`` is a function of time."""
    data = mujoco.MjData(model)
    kept: list[tuple[np.ndarray, ...]] = []
    step = 0
    while len(kept) < count:
        if step % _EPISODE[task] == 0:
            mujoco.mj_resetData(model, data)
            data.qpos[:] = home_of(model) + rng.uniform(-0.005, 0.005, model.nq)
            data.qvel[:] = 0.1 * rng.normal(size=model.nv)
        ctrl = control(float(data.time))
        if step % 3 == 2:
            kept.append((data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), ctrl))
        data.ctrl[:] = ctrl
        for _ in range(FRAME_SKIP[task]):
            mujoco.mj_step(model, data)
        step += 1
    return States(*(np.array(column) for column in zip(*kept, strict=True)))
