"""What has to hold on a GPU; skipped where there is none."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from gaits import gait_states
from gradient_cases import by_autodiff, case
from jax.flatten_util import ravel_pytree

from mjxppo import cli, physics
from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.envs.robot import robot_model
from mjxppo.measure.visited_states import FRAME_SKIP, XML_FILE, random_states
from mjxppo.physics.pallas_backend import PlanarPallasPhysics
from mjxppo.ppo import fused

pytestmark = pytest.mark.gpu


CASES = [
    (task, backend) for task in ("half_cheetah", "hopper", "walker2d") for backend in ("planar", "planar-pallas", "mjx")
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("task", "backend"), [*CASES, ("swimmer", "spatial-pallas"), ("reacher", "spatial-pallas")])
def test_an_environment_step_equals_c_mujoco(task, backend):
    model = robot_model(XML_FILE[task])
    states = random_states(model, task, 512, 0) if backend.startswith("spatial") else gait_states(model, task, 512)
    sim = physics.make(model, backend, FRAME_SKIP[task])
    state = sim.init(states.qpos.astype("f"), states.qvel.astype("f"))
    state = state.replace(qacc_warmstart=jax.numpy.asarray(states.qacc_warmstart, "float32"))
    qvel = np.asarray(jax.jit(sim.step)(state, states.ctrl.astype("f")).qvel)
    data = mujoco.MjData(model)
    model.opt.tolerance = 0
    errors = []
    for i in range(len(qvel)):
        data.qpos[:], data.qvel[:], data.ctrl[:] = states.qpos[i], states.qvel[i], states.ctrl[i]
        data.qacc_warmstart[:] = states.qacc_warmstart[i]
        mujoco.mj_step(model, data, FRAME_SKIP[task])
        errors.append(np.abs(qvel[i] - data.qvel).max())
    assert np.median(errors) < 1e-5
    assert np.mean(np.array(errors) > 1e-2) <= 0.01


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [(32, 1), (64, 2), (128, 2)])
def test_a_worlds_result_depends_neither_on_the_batch_nor_on_the_kernels_blocks(size):
    model = robot_model(XML_FILE["hopper"])
    states = gait_states(model, "hopper", 1000)
    qpos, qvel, ctrl = (x.astype("f") for x in (states.qpos, states.qvel, states.ctrl))
    sim = PlanarPallasPhysics(model, 4, *size)
    together = jax.jit(sim.step)(sim.init(qpos, qvel), ctrl)
    order = np.random.default_rng(0).permutation(1000)[:777]
    other = PlanarPallasPhysics(model, 4)
    shuffled = jax.jit(other.step)(other.init(qpos[order], qvel[order]), ctrl[order])
    np.testing.assert_array_equal(np.asarray(together.qvel)[order], shuffled.qvel)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hidden_sizes", [(64, 64), (48, 20, 128)])
@pytest.mark.parametrize("slices", [64, 2500])
def test_the_kernels_gradient_is_autodiffs_up_to_tf32(hidden_sizes, slices):
    """Also with more samples than its programs take at once. TF32 has 10 bits of mantissa.

    Without clipping: rounding would move samples across the clip range's ends, where the gradient jumps.
    """
    ppo = PpoConfig(loss="policy_gradient")
    policy = PolicyConfig(hidden_sizes=hidden_sizes, critic_hidden_sizes=(64,), activation="silu")
    network, params, samples = case(policy, slices=slices, width=16)
    chosen = jnp.arange(slices, dtype=jnp.int32)[::-1]
    step = fused.Step(jnp.float32(samples.valid.sum()), jnp.float32(0.0))
    rows = fused.to_rows(samples)
    gradient = jax.jit(lambda flat: fused.gradient(flat, network, params, rows, 16, chosen, step, ppo)[0])
    found = gradient(ravel_pytree(params)[0])
    np.testing.assert_array_equal(found, gradient(ravel_pytree(params)[0]))
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(lambda p: by_autodiff(network, p, samples, chosen, step, ppo)[0])(params)
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


@pytest.mark.timeout(900)
def test_half_cheetah_learns_on_the_gpu(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--env", "halfcheetah", "--total-env-steps", "2000000", "--eval.episodes", "10", "--eval.no-video"]
    assert cli.main(["train", *arguments, "--run-dir", "run"]) == 0
    assert json.loads(capsys.readouterr().out)["eval"]["mean"] > 1500
