"""The losses against float64 formulas written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo import distribution, losses, networks

S = 64


def make(**options):
    network = networks.build(2, PolicyConfig(hidden_sizes=(16,), std="state_independent"))
    params = networks.init_params(network, 3, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 6)
    obs = jax.random.normal(keys[0], (S, 3))
    mean, log_std = network.apply(params, obs, method="policy")
    samples = losses.Samples(
        obs=obs,
        u=mean + jnp.exp(log_std) * jax.random.normal(keys[1], (S, 2)),
        log_prob=jax.random.normal(keys[2], (S,)) * 0.3 - 2.5,
        advantage=jax.random.normal(keys[3], (S,)),
        target=jax.random.normal(keys[4], (S,)),
        value=jax.random.normal(keys[5], (S,)),
        valid=jnp.ones(S),
    )
    return network, params, samples, PpoConfig(**options)


def call(network, params, samples, config, kl_penalty=1.0):
    return losses.loss(params, network, samples, samples.valid.sum(), config, jnp.float32(kl_penalty))


def float64_parts(network, params, samples):
    mean, log_std = (np.asarray(x, np.float64) for x in network.apply(params, samples.obs, method="policy"))
    value = np.asarray(network.apply(params, samples.obs, method="value"), np.float64)
    log_prob = stats.norm.logpdf(np.asarray(samples.u, np.float64), mean, np.exp(log_std)).sum(-1)
    ratio = np.exp(log_prob - np.asarray(samples.log_prob, np.float64))
    return ratio, value, log_std


@pytest.mark.parametrize("name", ["clip", "kl_penalty", "policy_gradient"])
def test_policy_loss_is_its_formula(name):
    network, params, samples, config = make(loss=name, value_coef=0.25, entropy_coef=0.1)
    total, terms = call(network, params, samples, config, kl_penalty=3.0)
    ratio, value, log_std = float64_parts(network, params, samples)
    advantage = np.asarray(samples.advantage, np.float64)
    kl = (ratio - 1 - np.log(ratio)).mean()
    expected = {
        "clip": -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage).mean(),
        "kl_penalty": -(ratio * advantage).mean() + 3.0 * kl,
        "policy_gradient": -(ratio * advantage).mean(),
    }[name]
    value_loss = 0.5 * np.square(value - np.asarray(samples.target)).mean()
    squash = np.log1p(-np.square(np.tanh(np.asarray(samples.u, np.float64)))).sum(-1)
    entropy = ((log_std + 0.5 * np.log(2 * np.pi * np.e)).sum(-1) + squash).mean()
    np.testing.assert_allclose(terms.policy_loss, expected, rtol=1e-4)
    np.testing.assert_allclose(terms.approx_kl, kl, rtol=1e-4)
    np.testing.assert_allclose(terms.clip_fraction, (np.abs(ratio - 1) > 0.2).mean(), rtol=1e-6)
    np.testing.assert_allclose(total, expected + 0.25 * value_loss - 0.1 * entropy, rtol=1e-4)


def test_value_clipping_takes_the_worse_of_both():
    network, params, samples, config = make(value_clip_eps=0.1)
    _, terms = call(network, params, samples, config)
    _, value, _ = float64_parts(network, params, samples)
    old, target = np.asarray(samples.value, np.float64), np.asarray(samples.target, np.float64)
    limited = old + np.clip(value - old, -0.1, 0.1)
    expected = 0.5 * np.maximum((value - target) ** 2, (limited - target) ** 2).mean()
    np.testing.assert_allclose(terms.value_loss, expected, rtol=1e-5)


def test_samples_without_meaning_weigh_nothing():
    network, params, samples, config = make(entropy_coef=0.1)
    half = jax.tree.map(lambda x: x[: S // 2], samples)
    spoiled = samples.replace(valid=jnp.arange(S) < S // 2, advantage=samples.advantage.at[S // 2 :].set(1e6))
    spoiled = spoiled.replace(
        valid=spoiled.valid.astype(jnp.float32), log_prob=samples.log_prob.at[S // 2 :].set(-200.0)
    )
    gradient = jax.grad(lambda p, s: call(network, p, s, config)[0])
    for a, b in zip(jax.tree.leaves(gradient(params, half)), jax.tree.leaves(gradient(params, spoiled)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_at_the_old_policy_all_three_losses_have_the_policy_gradient():
    network, params, samples, _ = make()
    mean, log_std = network.apply(params, samples.obs, method="policy")
    samples = samples.replace(log_prob=distribution.gaussian_log_prob(samples.u, mean, log_std))

    def policy_gradient(p):
        mean, log_std = network.apply(p, samples.obs, method="policy")
        log_prob = distribution.gaussian_log_prob(samples.u, mean, log_std) - distribution.squash_log_det(samples.u)
        return -(log_prob * samples.advantage).mean()

    expected = jax.tree.leaves(jax.grad(policy_gradient)(params))
    for name in ("clip", "kl_penalty", "policy_gradient"):
        config = PpoConfig(loss=name, value_coef=0.0)
        actual = jax.tree.leaves(jax.grad(lambda p, c=config: call(network, p, samples, c)[0])(params))
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_divergence_from_a_reference_is_added_with_its_weight():
    network, params, samples, config = make()
    keys = jax.random.split(jax.random.key(7))
    reference = jax.random.normal(keys[0], (S, 2)), 0.3 * jax.random.normal(keys[1], (S, 2)) - 0.5
    half = samples.replace(reference=reference, valid=(jnp.arange(S) < S // 2).astype(jnp.float32))
    without, terms = losses.loss(params, network, half.replace(reference=None), S // 2, config, jnp.float32(1.0))
    assert terms.reference_kl is None
    total, terms = losses.loss(params, network, half, S // 2, config, jnp.float32(1.0), jnp.float32(3.0))
    mean, log_std = (np.asarray(x, np.float64) for x in network.apply(params, samples.obs, method="policy"))
    theirs, their_std = np.asarray(reference[0], np.float64), np.exp(np.asarray(reference[1], np.float64))
    # The integral of p log(p / q), by its closed form for one dimension (Kullback and Leibler 1951).
    kl = np.log(np.exp(log_std) / their_std) + (their_std**2 + (theirs - mean) ** 2) / (2 * np.exp(2 * log_std)) - 0.5
    np.testing.assert_allclose(terms.reference_kl, kl.sum(-1)[: S // 2].mean(), rtol=1e-4)
    np.testing.assert_allclose(total - without, 3 * terms.reference_kl, rtol=1e-3)


def test_imitation_takes_the_divergence_from_the_teacher_as_its_policy_loss():
    network, params, samples, config = make(value_coef=0.0)
    teacher = jnp.full((S, 2), 0.3), jnp.full((S, 2), -0.7)
    total, terms = losses.loss(
        params, network, samples.replace(reference=teacher), samples.valid.sum(), config, jnp.float32(1.0), imitate=True
    )
    assert float(total) == float(terms.policy_loss) == float(terms.reference_kl) > 0
    assert float(terms.approx_kl) == float(terms.clip_fraction) == 0
