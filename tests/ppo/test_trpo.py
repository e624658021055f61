"""TRPO: conjugate gradients, Fisher products and the whole step against dense linear algebra in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import InitConfig, PolicyConfig, PpoConfig, TrpoConfig
from mjxppo.ppo import distribution, losses, networks, schedules
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.gradient import Algorithm, StepSettings
from mjxppo.ppo.trpo import conjugate_gradients, trust_region_step

BLOCKS, T, B, OBS, ACTIONS = 2, 5, 4, 3, 2
MAX_KL = 0.01
take_step = jax.jit(trust_region_step, static_argnums=0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_conjugate_gradients_solve_a_quadratic():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    matrix, right = jnp.asarray(root @ root.T + 0.1 * np.eye(12)), jnp.asarray(rng.normal(size=12))
    exact = jnp.linalg.solve(matrix, right)
    np.testing.assert_allclose(conjugate_gradients(lambda v: matrix @ v, right, 40), exact, rtol=1e-6)
    # After k steps the error, in the norm of the matrix, is the least of all in the first k Krylov directions.
    krylov = np.linalg.qr(np.stack([np.linalg.matrix_power(np.asarray(matrix), k) @ right for k in range(3)], 1))[0]
    best = krylov @ np.linalg.solve(krylov.T @ matrix @ krylov, krylov.T @ right)
    np.testing.assert_allclose(conjugate_gradients(lambda v: matrix @ v, right, 3), best, rtol=1e-8)


def test_conjugate_gradients_of_nothing_are_nothing():
    np.testing.assert_array_equal(conjugate_gradients(lambda v: 2 * v, jnp.zeros(3), 10), np.zeros(3))


class Problem:
    """A batch drawn from a tiny policy, and the step that TRPO takes on it."""

    def __init__(self, seed: int, std: str = "state_independent", trpo: TrpoConfig = TrpoConfig(), **change: Any):  # noqa: B008
        rng = np.random.default_rng(seed)
        policy = PolicyConfig(hidden_sizes=(4,), std=std, init_log_std=-0.5, min_log_std=-1.5)
        self.network = networks.build(ACTIONS, policy)
        shapes = jax.eval_shape(lambda: networks.init_params(self.network, OBS, jax.random.key(0)))
        self.params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0])), shapes)
        if std == "state_independent":
            self.params["params"]["actor"]["log_std"] = jnp.array([-1.0, 0.5])
        obs = jnp.asarray(rng.normal(size=(BLOCKS, T, B, OBS)))
        mean, log_std = networks.apply_policy(self.network, self.params, obs)
        u = mean + jnp.exp(log_std) * rng.normal(size=mean.shape)
        valid = (rng.random((BLOCKS, T, B)) > 0.2).astype(float)
        zeros = jnp.zeros((BLOCKS, T, B))
        advantage = jnp.asarray(rng.normal(size=zeros.shape))
        log_prob = distribution.gaussian_log_prob(u, mean, log_std)
        self.samples = losses.Samples(obs, u, log_prob, advantage, zeros, zeros, jnp.asarray(valid))
        self.samples = self.samples.replace(**change)
        config = PpoConfig(loss="policy_gradient", max_kl=MAX_KL)
        self.algorithm = Algorithm(self.network, policy, config, Devices(1), trpo=trpo)
        self.start, self.unravel = ravel_pytree(networks.actor_of(self.params))

    def kl(self, flat: jax.Array) -> jax.Array:
        """Mean KL(policy at the start || policy), over the valid samples."""
        apply = partial(networks.apply_policy, self.network)
        old, new = apply(self.unravel(self.start), self.samples.obs), apply(self.unravel(flat), self.samples.obs)
        kl, weight = distribution.gaussian_kl(*old, *new), self.samples.valid
        return (kl * weight).sum() / weight.sum()

    def surrogate(self, flat: jax.Array) -> jax.Array:
        """Mean of ratio times advantage, over the valid samples."""
        mean, log_std = networks.apply_policy(self.network, self.unravel(flat), self.samples.obs)
        ratio = jnp.exp(distribution.gaussian_log_prob(self.samples.u, mean, log_std) - self.samples.log_prob)
        return (ratio * self.samples.advantage * self.samples.valid).sum() / self.samples.valid.sum()

    def step(self, policy_learns: bool | None = None) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        """The actor's parameters after the step, and its metrics."""
        progress = schedules.Progress(jnp.float64(0.0), jnp.int32(0))
        learns = None if policy_learns is None else jnp.array(policy_learns)
        coef = schedules.anchor_coef(InitConfig(), progress)
        settings = StepSettings(jnp.float64(1.0), jnp.float64(-1.5), learns, jnp.float64(0.0), coef)
        params, metrics, extra = take_step(self.algorithm, self.params, self.samples, settings)
        critic, before = (tree["params"]["critic"] for tree in (params, self.params))
        jax.tree.map(np.testing.assert_array_equal, critic, before)
        return ravel_pytree(networks.actor_of(params))[0], metrics, extra


@pytest.mark.parametrize("std", ["state_independent", pytest.param("state_dependent", marks=pytest.mark.exhaustive)])
def test_the_first_try_is_the_natural_gradient_from_the_dense_fisher_matrix(std):
    """The Hessian of the KL divergence, by automatic differentiation, and a dense solution."""
    exact = TrpoConfig(cg_steps=200, cg_damping=0.05)
    problem = Problem(1, std, exact)
    fisher = jax.hessian(problem.kl)(problem.start) + 0.05 * jnp.eye(problem.start.size)
    direction = jnp.linalg.solve(fisher, jax.grad(problem.surrogate)(problem.start))
    full_step = jnp.sqrt(2 * MAX_KL / (direction @ fisher @ direction)) * direction
    after, _, extra = problem.step()
    accepted = 0.8 ** (int(extra["line_search_tries"]) - 1) * full_step
    np.testing.assert_allclose(after - problem.start, accepted, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(extra["trust_region_kl"], problem.kl(after), rtol=1e-9)


@pytest.mark.parametrize("std", ["state_independent", "state_dependent"])
def test_every_step_improves_the_surrogate_within_the_bound(std):
    tries = []
    for seed in range(20):
        problem = Problem(seed, std, TrpoConfig(cg_damping=0.1 * (seed % 2)))
        after, metrics, extra = problem.step()
        tries.append(int(extra["line_search_tries"]))
        assert bool(extra["step_accepted"]) and float(problem.kl(after)) <= MAX_KL
        assert float(problem.surrogate(after)) > float(problem.surrogate(problem.start))
        assert int(metrics.taken) == 1 and not bool(metrics.skipped)
        assert float(metrics.terms.policy_loss) == pytest.approx(-float(problem.surrogate(after)))
    assert max(tries) > 1, "the search is needed in some"


def test_the_longest_step_that_may_be_taken_is():
    problem = Problem(3, trpo=TrpoConfig(cg_damping=0.0))
    after, _, extra = problem.step()
    tries = int(extra["line_search_tries"])
    assert tries > 1
    one_longer = problem.start + (after - problem.start) / 0.8
    too_far = float(problem.kl(one_longer)) > MAX_KL
    no_gain = float(problem.surrogate(one_longer)) <= float(problem.surrogate(problem.start))
    assert too_far or no_gain


def test_a_policy_that_no_step_improves_stays():
    problem = Problem(4, advantage=jnp.zeros((BLOCKS, T, B)))
    after, metrics, extra = problem.step()
    np.testing.assert_array_equal(after, problem.start)
    assert not bool(extra["step_accepted"]) and int(extra["line_search_tries"]) == 10
    assert float(extra["trust_region_kl"]) == 0 and float(metrics.grad_norm) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(broken):
    problem = Problem(5)
    problem.samples = problem.samples.replace(
        advantage=problem.samples.advantage.at[0, 0, 0].set(broken), valid=problem.samples.valid.at[0, 0, 0].set(1.0)
    )
    after, metrics, _ = problem.step()
    np.testing.assert_array_equal(after, problem.start)
    assert bool(metrics.skipped) and np.isfinite(metrics.grad_norm)


def test_the_policy_stays_while_only_the_critic_learns():
    problem = Problem(6)
    after, _, extra = problem.step(policy_learns=False)
    np.testing.assert_array_equal(after, problem.start)
    assert float(extra["trust_region_kl"]) == 0


def test_log_std_stays_within_its_bounds():
    problem = Problem(7)
    flat = problem.params["params"]["actor"]["log_std"]
    problem.params["params"]["actor"]["log_std"] = jnp.full_like(flat, -1.5)
    problem.start, problem.unravel = ravel_pytree(networks.actor_of(problem.params))
    mean, log_std = networks.apply_policy(problem.network, problem.params, problem.samples.obs)
    # Samples at the mean are the good ones: the policy wants to be narrower than its bound.
    u = mean + jnp.exp(log_std) * jnp.where(problem.samples.advantage[..., None] > 0, 0.1, 2.0)
    log_prob = distribution.gaussian_log_prob(u, mean, log_std)
    problem.samples = problem.samples.replace(u=u, log_prob=log_prob)
    after, _, _ = problem.step()
    assert (problem.unravel(after)["params"]["actor"]["log_std"] >= -1.5).all()


def test_blocks_one_after_the_other_or_all_at_once_are_the_same():
    problem = Problem(8)
    one_by_one = problem.step()[0]
    problem.algorithm = problem.algorithm._replace(block_by_block=False)
    # The sums are rounded in another order, and parameters of size 1 are float32 numbers 1e-7 apart.
    np.testing.assert_allclose(problem.step()[0], one_by_one, rtol=1e-6, atol=1e-7)
