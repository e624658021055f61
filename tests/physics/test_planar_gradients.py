"""Derivatives of the planar backend."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY
from planar_models import GYMNASIUM, LEG, Worlds, gymnasium_model, gymnasium_worlds, rollout_worlds

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar import PlanarPhysics

ROBOTS = [
    "leg, RK4",
    "leg, Euler",
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("half_cheetah", "hopper")),
]


def robot(name: str) -> tuple[PlanarPhysics, Worlds]:
    """A robot's physics over a whole frame skip, and worlds in which contacts and limits are active."""
    if name in GYMNASIUM:
        return PlanarPhysics(gymnasium_model(name), GYMNASIUM[name]), gymnasium_worlds(name, 96)[32:]
    model = mujoco.MjModel.from_xml_string(LEG.replace('"RK4"', f'"{name.split()[1]}"'))
    return PlanarPhysics(model, 4), rollout_worlds(model, 96, episode=20)[32:]


@pytest.mark.parametrize("name", ROBOTS)
def test_forward_and_reverse_derivatives_agree_with_finite_differences(name):
    """Through a whole frame skip, contacts and limits active; the median world, as a difference quotient that
    straddles the making of a contact says nothing.
    """
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        sim, worlds = robot(name)
        warmstart = jnp.asarray(worlds.warmstart)

        def step(qpos, qvel, ctrl):
            out = sim.step(PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart), ctrl)
            return out.qpos, out.qvel

        def compiled(function):
            return jax.jit(function, compiler_options=QUICKLY)

        point = tuple(jnp.asarray(x) for x in (worlds.qpos, worlds.qvel, np.clip(worlds.ctrl, -0.9, 0.9)))
        direction = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in point)

        _, forward = compiled(lambda: jax.jvp(step, point, direction))()
        compiled_step = compiled(step)
        h = 1e-6
        ahead = compiled_step(*(x + h * d for x, d in zip(point, direction, strict=True)))
        behind = compiled_step(*(x - h * d for x, d in zip(point, direction, strict=True)))
        quotient = (ahead[1] - behind[1]) / (2 * h)
        error = np.abs(forward[1] - quotient).max(axis=1) / np.abs(quotient).max(axis=1)
        assert np.median(error) < 1e-7
        assert np.mean(error > 1e-4) < 0.1

        weights = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in forward)
        reverse = compiled(lambda: jax.vjp(step, *point)[1](weights))()
        there = sum(float(jnp.vdot(g, d)) for g, d in zip(reverse, direction, strict=True))
        here = sum(float(jnp.vdot(w, t)) for w, t in zip(weights, forward, strict=True))
        np.testing.assert_allclose(there, here, rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["leg, RK4", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("half_cheetah", "hopper"))]
)
def test_gradient_through_several_environment_steps_is_finite(name):
    """In float32, with contacts made and broken on the way."""
    sim, worlds = robot(name)
    state, ctrl = worlds.state()

    def distance(ctrl):
        final, _ = jax.lax.scan(lambda s, _: (sim.step(s, ctrl), None), state, length=6)
        return jnp.sum(final.qpos[:, 0])

    gradient = jax.jit(jax.grad(distance), compiler_options=QUICKLY)(ctrl)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-4
