"""The gradient's GPU kernel: interpreted it is autodiff of the loss, for every network that it takes; and it lowers."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICKLY, lowered_for_cuda
from gradient_cases import by_autodiff, case
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from toy import PointMass

from mjxppo.config.check import make_config
from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo import fused, gradient, networks
from mjxppo.ppo.collective import AXIS, Devices
from mjxppo.ppo.fused import kernel as kernel_module
from mjxppo.ppo.placement import Target
from mjxppo.run import start


def quick(function):
    """The jitted function, compiled in less time."""
    return jax.jit(function, compiler_options=QUICKLY)


def assert_equals_autodiff(network, params, samples, config, chosen=(4, 0, 3)):
    assert fused.supports(network, samples)
    step = fused.Step(jnp.float32(samples.valid[list(chosen)].sum()), jnp.float32(3.0), 0.1, 1.3)
    chosen = jnp.int32(chosen)
    flat, _ = ravel_pytree(params)

    def by_kernel(flat):
        return fused.gradient(flat, network, params, fused.to_rows(samples), 20, chosen, step, config, interpret=True)

    gradient, terms = quick(by_kernel)(flat)
    expected, expected_terms = quick(lambda p: by_autodiff(network, p, samples, chosen, step, config))(params)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    for name, value in vars(expected_terms).items():
        if value is not None:
            np.testing.assert_allclose(vars(terms)[name], value, rtol=1e-4, err_msg=name)


SILU = PolicyConfig(hidden_sizes=(64, 64), activation="silu", std="state_independent")
TANH = PolicyConfig(hidden_sizes=(32, 48), activation="tanh", privileged="critic")
RELU = PolicyConfig(hidden_sizes=(9,), critic_hidden_sizes=(7, 16, 5), activation="relu", std="state_independent")
WIDE = PolicyConfig(hidden_sizes=(128, 128), activation="elu")
KL = PpoConfig(loss="kl_penalty", value_clip_eps=0.1)


@pytest.mark.parametrize(
    ("policy", "config"),
    [
        (SILU, PpoConfig(entropy_coef=0.1, value_coef=0.7)),
        (TANH, KL),
        (RELU, PpoConfig(loss="policy_gradient")),
        pytest.param(WIDE, PpoConfig(), marks=pytest.mark.exhaustive),
    ],
    ids=["silu", "tanh", "relu", "wide"],
)
def test_the_interpreted_kernel_is_autodiff_of_the_loss(policy, config):
    """With 60 samples, no multiple of the kernel's 32, of which a seventh counts for nothing."""
    assert_equals_autodiff(*case(policy, own_size=11), config)


def test_a_program_may_take_several_tiles(monkeypatch):
    monkeypatch.setattr(kernel_module, "MAX_PROGRAMS", 2)
    policy = PolicyConfig(hidden_sizes=(5,))
    assert_equals_autodiff(*case(policy, obs=3, actions=1), PpoConfig(), chosen=(1, 2, 5, 4))  # 3 tiles


def steps_of(policy: PolicyConfig, ppo: PpoConfig, mode: fused.Mode, devices: int = 1):
    """The function that takes an update's gradient steps, and its arguments: 2 blocks of 16 worlds, 8 steps each."""
    network, params, samples = case(policy, slices=16, width=16, obs=3, actions=2)
    samples = jax.tree.map(lambda x: jnp.asarray(x).reshape(2, 8, *x.shape[1:]), samples)
    opt_state = gradient.optimizer(ppo).init(ravel_pytree(params)[0])
    settings = gradient.StepSettings(jnp.float32(1e-2), jnp.float32(-2.0), None, jnp.float32(1.0), jnp.float32(0.0))

    def take(params, opt_state, samples, clip_eps=ppo.clip_eps):
        algorithm = gradient.Algorithm(network, policy, replace(ppo, clip_eps=clip_eps), Devices(devices), fused=mode)
        return gradient.gradient_steps(algorithm, opt_state, params, samples, jax.random.key(0), settings)

    return take, (params, opt_state, samples)


SMALL = PolicyConfig(hidden_sizes=(8,), std="state_independent")
FEW_STEPS = PpoConfig(num_minibatches=2, num_epochs=2, advantage_normalization="minibatch")


def assert_same_steps(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4)


def test_gradient_steps_are_those_of_the_plain_program_also_where_members_differ_in_the_loss():
    ppo = replace(FEW_STEPS, num_microbatches=2)
    (plain, arguments), (kernel, _) = (steps_of(SMALL, ppo, mode) for mode in ("off", "interpreted"))
    clip_eps = jnp.float32([0.01, 0.5])
    expected = quick(jax.vmap(lambda eps: plain(*arguments, eps)))(clip_eps)
    assert not np.allclose(*expected[2].terms.clip_fraction)
    assert_same_steps(quick(jax.vmap(lambda eps: kernel(*arguments, eps)))(clip_eps), expected)


def test_devices_share_the_gradient():
    plain, arguments = steps_of(SMALL, FEW_STEPS, "off")
    kernel, _ = steps_of(SMALL, FEW_STEPS, "interpreted", devices=2)
    mesh = Mesh(np.array(jax.devices()[:2]), (AXIS,))
    specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS))
    shared = jax.shard_map(kernel, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    assert_same_steps(quick(shared)(*arguments), quick(plain)(*arguments))


@pytest.mark.parametrize("policy", [SILU, TANH, pytest.param(WIDE, marks=pytest.mark.exhaustive)])
def test_gradient_steps_lower_to_one_triton_kernel(policy):
    take, arguments = steps_of(policy, KL, "compiled")
    text = lowered_for_cuda(take, *arguments)
    assert text.count("__gpu$xla.gpu.triton") == 1
    assert "grid_x = 1 : i32" in text


def test_what_the_kernel_does_not_take_is_left_to_autodiff():
    network, _, samples = case(SMALL, obs=3, actions=2)
    assert fused.supports(network, samples)
    reference = samples.u, samples.u
    assert not fused.supports(network, samples.replace(reference=reference))
    assert not fused.supports(network, samples.replace(obs=np.zeros((6, 20, 129), "f")))
    assert not fused.supports(network, jax.tree.map(np.float64, samples))
    for sizes in ((), (16,) * 4, (129,)):
        assert not fused.supports(networks.build(2, replace(SMALL, hidden_sizes=sizes)), samples)


@pytest.mark.parametrize(("platform", "mode"), [("cpu", "off"), ("gpu", "interpreted"), ("tpu", "off")])
def test_programs_for_a_gpu_take_the_kernel(platform, mode):
    config = make_config({"env": "hopper", "num_devices": 1})  # a toy stands in
    program = start.build(config, PointMass(), Target(platform, tuple(jax.devices())))  # CPU devices
    assert program.algorithm(config.ppo).fused == mode


def test_the_kernel_is_compiled_for_the_devices_of_a_gpu():
    assert fused.mode("gpu", "gpu") == "compiled"
