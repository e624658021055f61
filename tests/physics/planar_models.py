"""Models, states and the C MuJoCo reference that the planar tests share."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from compiling import QUICKLY
from mujoco import rollout

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar import PlanarPhysics

GYMNASIUM = {"half_cheetah": 5, "hopper": 4, "walker2d_v5": 4}
"""Gymnasium's model files and their frame skip."""
_ASSETS = os.path.join(os.path.dirname(gymnasium.__file__), "envs", "mujoco", "assets")


def gymnasium_model(name: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(os.path.join(_ASSETS, f"{name}.xml"))


LEG = """
<mujoco>
  <option timestep="0.005" integrator="RK4"/>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body pos="0 0 0.4">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.05" contype="0" conaffinity="0"/>
      <body>
        <joint name="hip" type="hinge" axis="0 -1 0" range="-60 60" limited="true" armature="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.35" size="0.04"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="hip" gear="30"/></actuator>
</mujoco>
"""
"""A small robot, with contacts and a limit, that compiles in no time."""


@dataclass(frozen=True)
class Worlds:
    """States and controls of N worlds, float64 arrays [N, n]."""

    qpos: np.ndarray
    qvel: np.ndarray
    warmstart: np.ndarray
    ctrl: np.ndarray

    def __len__(self) -> int:
        return len(self.qpos)

    def __getitem__(self, index) -> Worlds:
        return Worlds(self.qpos[index], self.qvel[index], self.warmstart[index], self.ctrl[index])

    def __add__(self, other: Worlds) -> Worlds:
        return Worlds(*(np.concatenate(pair) for pair in zip(self.arrays(), other.arrays(), strict=True)))

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.qpos, self.qvel, self.warmstart, self.ctrl

    def state(self, dtype=jnp.float32) -> tuple[PhysicsState, jax.Array]:
        qpos, qvel, warmstart, ctrl = (jnp.asarray(x, dtype) for x in self.arrays())
        return PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart), ctrl


def rollout_worlds(model: mujoco.MjModel, count: int, seed: int = 0, steps: int = 4, episode: int = 60) -> Worlds:
    """States met under random controls, with C MuJoCo's warm starts."""
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    rows: list[tuple[np.ndarray, ...]] = []
    t = 0
    while len(rows) < count:
        if t % episode == 0 or not np.all(np.abs(data.qvel) < 1e3):
            mujoco.mj_resetData(model, data)
            data.qpos[:] += rng.uniform(-0.1, 0.1, model.nq)
            data.qvel[:] = 0.1 * rng.normal(size=model.nv)
        data.ctrl[:] = rng.uniform(-1.5, 1.5, model.nu)
        rows.append((data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), data.ctrl.copy()))
        for _ in range(steps):
            mujoco.mj_step(model, data)
        t += 1
    return Worlds(*(np.array(column) for column in zip(*rows, strict=True)))


def hard_worlds(model: mujoco.MjModel, count: int, seed: int = 1) -> Worlds:
    """States that no policy would choose: any pose (also upside down and folded through itself), joints at and
    beyond their limits, deep in the floor, fast; with useless warm starts.
    """
    rng = np.random.default_rng(seed)
    hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE.value
    qpos = model.qpos0 + np.where(hinge, rng.uniform(-np.pi, np.pi, (count, model.nq)), 0.0)
    qpos += np.where(hinge, 0.0, rng.uniform(-1.0, 0.5, (count, model.nq)))
    limited = np.flatnonzero(model.jnt_limited)
    at_limit = model.jnt_range[limited, rng.integers(0, 2, (count, len(limited)))]
    near = at_limit + rng.normal(size=at_limit.shape) * 10.0 ** rng.uniform(-6, -0.5, at_limit.shape)
    qpos[:, limited] = np.where(rng.random(at_limit.shape) < 0.7, near, qpos[:, limited])
    qvel = rng.normal(size=(count, model.nv)) * 10.0 ** rng.uniform(-2, 1.7, (count, 1))
    warmstart = rng.normal(size=(count, model.nv)) * 10.0 ** rng.uniform(-2, 3, (count, 1))
    return Worlds(qpos, qvel, warmstart, rng.uniform(-2, 2, (count, model.nu)))


def c_step(model: mujoco.MjModel, worlds: Worlds, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """qpos and qvel after ``steps`` steps of C MuJoCo (float64), its solver run to convergence.

    ``tolerance = 0`` lets Newton run until it cannot improve any more; the default tolerance of 1e-8 would leave
    an error of its own. So would 50 steps of its line search, where dry friction has many kinks.
    """
    model.opt.tolerance, model.opt.ls_tolerance = 0.0, 1e-10
    model.opt.iterations, model.opt.ls_iterations = 60, 200
    spec = mujoco.mjtState.mjSTATE_FULLPHYSICS
    # Full physics state: time, qpos, qvel.
    initial = np.concatenate([np.zeros((len(worlds), 1)), worlds.qpos, worlds.qvel], axis=1)
    assert initial.shape[1] == mujoco.mj_stateSize(model, spec)
    data = [mujoco.MjData(model) for _ in range(2)]
    control = np.repeat(worlds.ctrl[:, None], steps, axis=1)
    state, _ = rollout.rollout(model, data, initial, control, initial_warmstart=worlds.warmstart)
    return state[:, -1, 1 : 1 + model.nq], state[:, -1, 1 + model.nq :]


def planar_step(model: mujoco.MjModel, worlds: Worlds, steps: int, dtype=jnp.float64) -> tuple[np.ndarray, np.ndarray]:
    """qpos and qvel after ``steps`` steps of the planar backend."""
    with jax.enable_x64(dtype == jnp.float64):
        sim = PlanarPhysics(model, steps)
        options = QUICKLY if dtype == jnp.float64 else None
        out = jax.jit(sim.step, compiler_options=options)(*worlds.state(dtype))
        return np.asarray(out.qpos, np.float64), np.asarray(out.qvel, np.float64)


def errors(model: mujoco.MjModel, worlds: Worlds, steps: int, dtype=jnp.float64) -> np.ndarray:
    """max |dqvel| of each world against C MuJoCo."""
    expected = c_step(model, worlds, steps)
    actual = planar_step(model, worlds, steps, dtype)
    return np.abs(actual[1] - expected[1]).max(axis=1)


@functools.cache
def gymnasium_worlds(name: str, count: int, seed: int = 0) -> Worlds:
    return rollout_worlds(
        gymnasium_model(name), count, seed, GYMNASIUM[name], episode=300 if name == "half_cheetah" else 60
    )
