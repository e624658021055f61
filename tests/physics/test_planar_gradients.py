"""Derivatives of the planar backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planar_models import GYMNASIUM, Worlds, gymnasium_model, gymnasium_worlds

from mjxppo.physics.base import PhysicsState
from mjxppo.physics.planar import PlanarPhysics


def stepper(name: str, worlds: Worlds):
    sim = PlanarPhysics(gymnasium_model(name), GYMNASIUM[name])
    warmstart = jnp.asarray(worlds.warmstart)

    def step(qpos, qvel, ctrl):
        out = sim.step(PhysicsState(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart), ctrl)
        return out.qpos, out.qvel

    return step


@pytest.mark.parametrize("name", ["half_cheetah", "hopper"])
def test_forward_and_reverse_derivatives_agree_with_finite_differences(name):
    """Through a whole frame skip, contacts and limits active; the median world, as a difference quotient that
    straddles the making of a contact says nothing.
    """
    worlds = gymnasium_worlds(name, 96)[32:]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        step = stepper(name, worlds)
        point = tuple(jnp.asarray(x) for x in (worlds.qpos, worlds.qvel, np.clip(worlds.ctrl, -0.9, 0.9)))
        direction = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in point)

        _, forward = jax.jit(lambda: jax.jvp(step, point, direction))()
        compiled = jax.jit(step)
        h = 1e-6
        ahead = compiled(*(x + h * d for x, d in zip(point, direction, strict=True)))
        behind = compiled(*(x - h * d for x, d in zip(point, direction, strict=True)))
        quotient = (ahead[1] - behind[1]) / (2 * h)
        error = np.abs(forward[1] - quotient).max(axis=1) / np.abs(quotient).max(axis=1)
        assert np.median(error) < 1e-7
        assert np.mean(error > 1e-4) < 0.1

        weights = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in forward)
        reverse = jax.jit(lambda: jax.vjp(step, *point)[1](weights))()
        there = sum(float(jnp.vdot(g, d)) for g, d in zip(reverse, direction, strict=True))
        here = sum(float(jnp.vdot(w, t)) for w, t in zip(weights, forward, strict=True))
        np.testing.assert_allclose(there, here, rtol=1e-9)


def test_gradient_through_several_environment_steps_is_finite():
    """In float32, with contacts made and broken on the way."""
    name = "half_cheetah"
    worlds = gymnasium_worlds(name, 64)
    sim = PlanarPhysics(gymnasium_model(name), GYMNASIUM[name])
    state, ctrl = worlds.state()

    def distance(ctrl):
        final, _ = jax.lax.scan(lambda s, _: (sim.step(s, ctrl), None), state, length=6)
        return jnp.sum(final.qpos[:, 0])

    gradient = jax.jit(jax.grad(distance))(ctrl)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-4
