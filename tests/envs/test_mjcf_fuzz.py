"""Robots at random through ``envs.make``: as Gymnasium's environment on the same file, or refused in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from interpreted import interpreted
from mjcf_features import MJX_FEATURES
from mjcf_strategies import Case, cases, spatial_cases

from mjxppo import envs
from mjxppo.envs.ant import Ant, AntWorlds
from mjxppo.envs.environment import at_start
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError
from mjxppo.physics import PhysicsState
from mjxppo.physics.messages import without_model_warnings

NUM_WORLDS, NUM_STEPS = 12, 6
PRECISION = 1e-9
"""How exact a backend is: C's other rollouts have starts and actions that differ by this."""
AMPLIFIED = 300
"""Two rollouts differ by a fault where they differ by more than this times what C makes of such a difference."""
LOST = 0.02
"""A world is compared no longer when that is larger than this, relative to what is compared."""

UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
"""Warnings with which C MuJoCo puts a world back to the model's start."""


@dataclass(frozen=True)
class Start:
    """States and actions of N worlds: float64 arrays [N, n], and [T, N, nu]."""

    qpos: np.ndarray
    qvel: np.ndarray
    action: np.ndarray


@dataclass(frozen=True)
class Rollout:
    """What came of T steps of N worlds, [T, N, ...]."""

    obs: np.ndarray
    x: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    unstable: np.ndarray
    """Whether C MuJoCo has given the world up, which puts it back to the model's start; in ours False."""


def starts(model: mujoco.MjModel, seed: int) -> Start:
    """Starts near the file's, as a reset makes them, and far from it: other places, poses and speeds."""
    rng = np.random.default_rng(seed)
    size = rng.choice([0.0, 0.05, 0.3, 1.0], (NUM_WORLDS, 1))
    qpos = model.qpos0 + size * rng.uniform(-1, 1, (NUM_WORLDS, model.nq))
    qpos[:, 0] += rng.choice([0.0, 0.0, 1.0, -1.0], NUM_WORLDS)
    qvel = size * rng.normal(size=(NUM_WORLDS, model.nv))
    qvel[:, 0] += rng.choice([0.0, 2.0, -2.0], NUM_WORLDS)
    for world in qpos:
        mujoco.mj_normalizeQuat(model, world)
    return Start(qpos, qvel, rng.uniform(-1.2, 1.2, (NUM_STEPS, NUM_WORLDS, model.nu)))


def ours(env: envs.Environment, start: Start) -> Rollout:
    """T steps of N worlds of our environment, without resets."""

    def rollout(qpos, qvel, action):
        worlds = worlds_at(env.task, qpos, qvel)
        terms = env.task.reward_term_names(worlds, action[0])
        state = at_start(worlds, jnp.zeros(NUM_WORLDS), env.task.observe(worlds), terms)

        def step(state, action):
            state = env.advance(state, action)
            return state, (state.obs, env.step_info(state)["x_position"], state.reward, state.terminated)

        return jax.lax.scan(step, state, action)[1]

    of_steps = interpreted(rollout, start.qpos, start.qvel, start.action)
    return Rollout(*of_steps, unstable=np.zeros((NUM_STEPS, NUM_WORLDS), bool))


def worlds_at(task: Any, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
    """The worlds of a task at the start of an episode, in a state [N, nq], [N, nv]."""
    if not isinstance(task, Ant):
        return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=0 * qvel)
    still, forces = 0 * qpos[:, :2], jnp.zeros((len(qpos), 6 * (task.model.nbody - 1)))
    return AntWorlds(qpos, qvel, 0 * qvel, None, lag=still, velocity=still, contact_forces=forces)


def gymnasiums(gym: Any, start: Start) -> Rollout:
    """The same of Gymnasium's environment, with actions in its own units."""
    low, high = (np.asarray(x, np.float64) for x in (gym.action_space.low, gym.action_space.high))
    rows: list[tuple[Any, ...]] = []
    for world in range(NUM_WORLDS):
        gym.reset(seed=0)
        gym.set_state(start.qpos[world], start.qvel[world])
        for step in range(NUM_STEPS):
            obs, reward, terminated, _, info = gym.step(low + (start.action[step, world] + 1) / 2 * (high - low))
            unstable = any(gym.data.warning[kind].number for kind in UNSTABLE)
            # C MuJoCo looks at what a step leaves when the next one begins; in ours the world is broken at once.
            left = np.concatenate([gym.data.qpos, gym.data.qvel, gym.data.qacc_warmstart])
            unstable |= bool(np.abs(left).max() > mujoco.mjMAXVAL)
            rows.append((obs, info["x_position"], reward, terminated, unstable))
    columns = [
        np.array(x).reshape(NUM_WORLDS, NUM_STEPS, *np.shape(x[0])).swapaxes(0, 1) for x in zip(*rows, strict=True)
    ]
    return Rollout(*columns)


def gymnasium_environment(case: Case, path: Path) -> Any:
    """Gymnasium's environment, whose solver converges, as ours does whatever the file says."""
    with without_model_warnings():
        made = gymnasium.make(
            TASKS[case.task].gym_id, xml_file=str(path), frame_skip=case.frame_skip, disable_env_checker=True
        )
    option = made.unwrapped.model.opt
    option.solver, option.tolerance, option.ls_tolerance, option.iterations = (
        mujoco.mjtSolver.mjSOL_NEWTON,
        0,
        1e-8,
        100,
    )
    return made.unwrapped


def compare(case: Case, path: Path, backend: str) -> str:
    """Compares the worlds of a robot, and raises AssertionError where they are not Gymnasium's.

    Returns "equal", "chaotic" (in C MuJoCo too, so that fewer than half of the worlds could be compared), "invalid" (C
    MuJoCo runs out of the memory that the file gives it), or the line that refuses the robot.
    """
    path.write_text(case.xml, encoding="utf-8")
    with jax.enable_x64(True):
        try:
            env = envs.make(case.task, xml_file=path, frame_skip=case.frame_skip, backend=backend)
        except UserError as refusal:
            line = str(refusal)
            assert line and "\n" not in line and len(line) < 500, line
            return line
        gym = gymnasium_environment(case, path)
        start = starts(gym.model, case.seed)
        got = ours(env, start)
    rng = np.random.default_rng(case.seed + 1)
    try:
        expected = gymnasiums(gym, start)
        others = [gymnasiums(gym, _changed(start, PRECISION, rng)) for _ in range(2)]
    except mujoco.FatalError as error:
        assert "out of memory" in str(error) and "memory" in case.features, error
        return "invalid"
    return "equal" if assert_equal(got, expected, others) > 0.5 else "chaotic"


def _changed(start: Start, size: float, rng: np.random.Generator) -> Start:
    return Start(*(x + size * rng.choice([-1, 1], x.shape) for x in (start.qpos, start.qvel, start.action)))


def assert_equal(got: Rollout, expected: Rollout, others: list[Rollout]) -> float:
    """Asserts that two rollouts differ by no more than C's own do when their starts differ by a little.

    Returns the share of worlds that could be compared in the first step.
    """
    compared = ~np.any([rollout.unstable for rollout in (expected, *others)], axis=0)
    for name in ("obs", "x", "reward"):
        actual, wanted, *alternatives = (
            getattr(rollout, name).astype(float).reshape(NUM_STEPS, NUM_WORLDS, -1)
            for rollout in (got, expected, *others)
        )
        size = 1 + np.abs(wanted).max(-1)
        spread = np.abs(np.array(alternatives) - wanted).max((0, -1))
        tolerance = AMPLIFIED * (spread + PRECISION * size)
        compared &= np.logical_and.accumulate((tolerance < LOST * size) & (size < 1e4))
        error = np.abs(actual - wanted).max(-1)
        wrong = compared & ~(error <= tolerance)
        assert not wrong.any(), (
            f"{name}: (step, world) {np.argwhere(wrong)[0]}: {error[wrong][0]} above {tolerance[wrong][0]}"
        )
    sure = compared & np.all([other.terminated == expected.terminated for other in others], axis=0)
    np.testing.assert_array_equal(got.terminated[sure], expected.terminated[sure])
    return float(compared[0].mean())


def outcomes(part: int, count: int, backend: str, draw: Callable[[Random], Case], tmp_path: Path) -> Counter[str]:
    """How often ``count`` robots were "equal", "chaotic", "refused", or "invalid": refused by MuJoCo itself."""
    found: Counter[str] = Counter()
    for number in range(count):
        case = draw(Random(1000 * part + number))
        try:
            outcome = compare(case, tmp_path / "robot.xml", backend)
        except Exception as error:
            raise AssertionError(f"robot {number} of part {part}: {case}") from error
        invalid = outcome == "invalid" or "MuJoCo cannot load" in outcome
        found["invalid" if invalid else outcome if outcome in ("equal", "chaotic") else "refused"] += 1
    assert found["chaotic"] <= max(1, count // 20), found
    return found


@pytest.mark.parametrize("part", [*range(3), *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(3, 30))])
def test_a_robot_in_planar_physics_is_gymnasiums_or_refused_in_one_line(part, tmp_path):
    found = outcomes(part, 100, "planar", cases, tmp_path)
    assert found["equal"] >= 30 and found["refused"] >= 20 and found["invalid"] <= 10, found


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(1, 20))])
def test_a_robot_in_spatial_physics_is_gymnasiums_or_refused_in_one_line(part, tmp_path):
    found = outcomes(part, 10, "spatial", spatial_cases, tmp_path)
    assert found["equal"] >= 3, found


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(1, 20))])
@pytest.mark.usefixtures("mjx_is_only_traced")
def test_a_robot_in_mjx_physics_is_gymnasiums_or_refused_in_one_line(part, tmp_path):
    found = outcomes(part, 8, "mjx", partial(cases, features=MJX_FEATURES), tmp_path)
    assert found["equal"] >= 2, found
