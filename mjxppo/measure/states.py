"""States that C MuJoCo visits, to start measurements and comparisons from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import mujoco
import numpy as np

from mjxppo.envs.registry import TASKS

_OPTIONS = {name: entry.task.Options() for name, entry in TASKS.items()}  # type: ignore[call-arg]
FRAME_SKIP = {name: options.frame_skip for name, options in _OPTIONS.items()}
"""MuJoCo steps per environment step of each task."""

XML_FILE = {name: options.xml_file for name, options in _OPTIONS.items()}
"""The model file of each task."""

EPISODE = {"half_cheetah": 100, "hopper": 60, "walker2d": 60}
"""Environment steps after which a rollout starts again."""

# Open-loop gaits, found once by the cross-entropy method on distance covered: ctrl_i = a_i sin(w t + b_i) + c_i,
# with w (rad/s), then all a, all b, all c. The cheetah runs at 3.8 m/s, the hopper hops and the walker strides until
# they fall, after 0.8 s and more.
_GAITS = {
    "half_cheetah": [
        19.83,
        1.49, 0.53, -0.0, 0.61, 1.1, 0.93,
        -8.74, -0.7, 2.49, 0.37, 1.3, -1.01,
        0.32, -1.57, -2.11, -0.35, -0.28, 0.22,
    ],
    "hopper": [8.51, 0.13, 0.79, 0.1, 0.19, 1.31, -2.5, 0.03, 0.58, 0.19],
    "walker2d": [
        7.49,
        -0.09, 0.51, 0.22, 0.58, 0.47, 0.4,
        1.32, -1.08, -1.36, -1.08, -1.44, -1.88,
        0.74, 0.33, 0.31, 1.18, 1.18, 1.07,
    ],
}  # fmt: skip


class States(NamedTuple):
    """N states, and the controls applied in them; all float64."""

    qpos: np.ndarray
    """[N, nq]"""
    qvel: np.ndarray
    """[N, nv]"""
    qacc_warmstart: np.ndarray
    """[N, nv]"""
    ctrl: np.ndarray
    """[N, nu]"""


def random_states(model: mujoco.MjModel, task: str, count: int, seed: int = 0) -> States:
    """States on rollouts of uniformly random controls."""
    rng = np.random.default_rng(seed)
    return _visit(model, task, count, rng, lambda _: rng.uniform(-1, 1, model.nu))


def gait_states(model: mujoco.MjModel, task: str, count: int, seed: int = 0) -> States:
    """States on rollouts of a vigorous open-loop gait with a little noise: impacts, flight and speed."""
    rng = np.random.default_rng(seed)
    frequency, *rest = _GAITS[task]
    amplitude, phase, offset = np.split(np.array(rest), 3)

    def control(time: float) -> np.ndarray:
        gait = amplitude * np.sin(frequency * time + phase) + offset
        return np.clip(gait + 0.05 * rng.normal(size=model.nu), -1, 1)

    return _visit(model, task, count, rng, control)


def _visit(
    model: mujoco.MjModel, task: str, count: int, rng: np.random.Generator, control: Callable[[float], np.ndarray]
) -> States:
    """Every third state of rollouts that start near the model's initial state."""
    data = mujoco.MjData(model)
    kept: list[tuple[np.ndarray, ...]] = []
    step = 0
    while len(kept) < count:
        if step % EPISODE[task] == 0:
            mujoco.mj_resetData(model, data)
            data.qpos[:] = model.qpos0 + rng.uniform(-0.005, 0.005, model.nq)
            data.qvel[:] = 0.1 * rng.normal(size=model.nv)
        ctrl = control(float(data.time))
        if step % 3 == 2:
            kept.append((data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), ctrl))
        data.ctrl[:] = ctrl
        for _ in range(FRAME_SKIP[task]):
            mujoco.mj_step(model, data)
        step += 1
    return States(*(np.array(column) for column in zip(*kept, strict=True)))


def converged_step(model: mujoco.MjModel, states: States, frame_skip: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, nq] and velocities [N, nv] after one environment step of C MuJoCo, solved to convergence."""
    model = copy.copy(model)
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    model.opt.iterations, model.opt.ls_iterations = 200, 100
    model.opt.tolerance = model.opt.ls_tolerance = 1e-12
    data = mujoco.MjData(model)
    qpos, qvel = [], []
    for q, v, warmstart, ctrl in zip(*states, strict=True):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:], data.ctrl[:] = q, v, warmstart, ctrl
        for _ in range(frame_skip):
            mujoco.mj_step(model, data)
        qpos.append(data.qpos.copy())
        qvel.append(data.qvel.copy())
    return np.array(qpos), np.array(qvel)
