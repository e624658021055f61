"""States of fast gaits, and C MuJoCo's converged step from them, to compare physics backends with."""

import copy

import mujoco
import numpy as np

from mjxppo.measure.visited_states import States, visit_states

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


def gait_states(model: mujoco.MjModel, task: str, count: int, seed: int = 0) -> States:
    """States on rollouts of a vigorous open-loop gait with a little noise: impacts, flight and speed."""
    rng = np.random.default_rng(seed)
    frequency, *rest = _GAITS[task]
    amplitude, phase, offset = np.split(np.array(rest), 3)

    def control(time: float) -> np.ndarray:
        gait = amplitude * np.sin(frequency * time + phase) + offset
        return np.clip(gait + 0.05 * rng.normal(size=model.nu), -1, 1)

    return visit_states(model, task, count, rng, control)


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
