"""A whole update against the same in float64 NumPy: parameters, Adam's state, moments, step size and every metric."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import learn_reference as reference
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mjxppo.config.schema import PolicyConfig, PpoConfig
from mjxppo.ppo import minibatch, networks
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.episodes import EpisodeSteps
from mjxppo.ppo.gradient import Algorithm, optimizer
from mjxppo.ppo.normalize import RunningMoments, initial_moments
from mjxppo.ppo.rollout import Batch
from mjxppo.ppo.schedules import Progress
from mjxppo.ppo.state import Learner
from mjxppo.ppo.update import learn

BLOCKS, T, B, OBS, ACTIONS = 2, 6, 4, 3, 2
EPOCHS, MINIBATCHES = 3, 4
POLICY = PolicyConfig(
    hidden_sizes=(5,), activation="tanh", std="state_independent", min_log_std=-0.52, init_log_std=-0.5
)
USED = 0.25


def ppo(**fields: Any) -> PpoConfig:
    """The settings of all cases: steps large enough that ratios are clipped, and gradients longer than their bound."""
    sizes = {"num_envs": BLOCKS * B, "block_size": B, "rollout_length": T}
    steps = {"num_epochs": EPOCHS, "num_minibatches": MINIBATCHES, "learning_rate": 0.05}
    return PpoConfig(**(sizes | steps | {"learning_rate_schedule": "constant"} | fields))


def experience(rng: np.random.Generator, network: networks.ActorCritic, params: Any) -> tuple[Batch, np.ndarray]:
    """A batch with ends of both kinds and steps that do not count, drawn from a policy near the present one."""
    obs = rng.normal(size=(BLOCKS, T + 1, B, OBS))
    kind = rng.integers(0, 8, size=(BLOCKS, T, B))
    valid = kind != 0
    mean, log_std = networks.apply_policy(network, params, jnp.asarray(obs[:, :-1]))
    drawn = np.asarray(mean + 0.1) + np.exp(np.asarray(log_std)) * rng.normal(size=mean.shape)
    u = np.where(valid[..., None], drawn, 0)
    log_prob = reference.log_density(u, np.asarray(mean) + 0.1, np.asarray(log_std))
    batch = Batch(
        obs=obs[:, :-1],
        u=u,
        log_prob=np.where(valid, log_prob, 0),
        reward=rng.normal(2.0, 3.0, size=kind.shape),
        terminated=kind == 1,
        truncated=kind == 2,
        final_value=np.where(kind == 2, rng.normal(size=kind.shape), 0),
        valid=valid,
        episode=EpisodeSteps(*np.zeros((3, BLOCKS, T, B))),
    )
    return jax.tree.map(jnp.asarray, batch), jnp.asarray(obs[:, -1])


def by_name(params: Any) -> reference.Arrays:
    """Parameters, or Adam's moments unravelled, under the names of the reference."""
    tree = params["params"]
    named = {"log_std": tree["actor"]["log_std"]}
    for name, mlp in (("actor", tree["actor"]["mlp"]), ("critic", tree["critic"])):
        for number, layer in (("1", "hidden_0"), ("2", "head")):
            named[f"{name}_W{number}"], named[f"{name}_b{number}"] = mlp[layer]["kernel"], mlp[layer]["bias"]
    return {name: np.asarray(x, np.float64) for name, x in named.items()}


def sample_indices(key: Any) -> np.ndarray:
    """Indices of each minibatch's samples in the flattened batch, [epochs, minibatches, samples]."""
    per_step = minibatch.slices_per_step(T, B, MINIBATCHES)
    numbers = np.asarray(minibatch.to_slices(np.arange(BLOCKS * T * B).reshape(BLOCKS, T, B), per_step))
    draws = [
        minibatch.draw(jax.random.fold_in(key, epoch), 0, BLOCKS, T * per_step, MINIBATCHES) for epoch in range(EPOCHS)
    ]
    return np.stack([numbers[np.asarray(draw)].reshape(MINIBATCHES, -1) for draw in draws])


class Case:
    """One update from a state in the middle of training, by the package and by the reference."""

    def __init__(
        self,
        config: PpoConfig,
        moments: RunningMoments | None = None,
        change: Any = lambda batch: batch,
        platform: str = "cpu",
    ):
        rng = np.random.default_rng(0)
        network = networks.build(ACTIONS, POLICY)
        shapes = jax.eval_shape(lambda: networks.init_params(network, OBS, jax.random.key(0)))
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[0])), shapes)
        params["params"]["actor"]["log_std"] = jnp.array([1.9999, -0.515])
        flat, self.unravel = ravel_pytree(params)
        opt_state = optimizer(config).init(flat)
        adam = opt_state[1]._replace(
            count=jnp.int32(7),
            mu=jnp.asarray(1e-3 * rng.normal(size=flat.shape)),
            nu=jnp.asarray(1e-4 * rng.random(flat.shape)),
        )
        moments = moments or RunningMoments(jnp.float64(5.0), jnp.float64(16.0), jnp.float64(20.0))
        self.learner = Learner(
            params=params,
            opt_state=(opt_state[0], adam),
            obs_moments=initial_moments((OBS,)),
            return_moments=moments,
            learning_rate=jnp.float64(0.006),
            kl_penalty=jnp.float64(0.7),
        )
        batch, last_obs = experience(rng, network, params)
        batch = change(batch)
        key = jax.random.key(3)
        algorithm = Algorithm(network, POLICY, config, Devices(1), block_by_block=platform == "cpu")
        progress = Progress(jnp.float64(USED), jnp.int32(7))
        run = jax.jit(lambda learner, batch: learn(algorithm, learner, batch, last_obs, key, progress))
        self.after, self.metrics = run(self.learner, batch)
        arrays = {name: np.asarray(x) for name, x in vars(batch).items() if isinstance(x, jax.Array)}
        self.expected = reference.learn(
            config,
            POLICY.min_log_std,
            networks.MAX_LOG_STD,
            self.state(self.learner),
            arrays,
            np.asarray(last_obs),
            sample_indices(key),
            USED,
        )

    def state(self, learner: Learner) -> reference.State:
        adam = learner.opt_state[1]
        moments = (float(x) for x in (learner.return_moments.mean, learner.return_moments.var))
        parts = by_name(learner.params), by_name(self.unravel(adam.mu)), by_name(self.unravel(adam.nu)), int(adam.count)
        scalars = learner.return_moments.count, learner.learning_rate, learner.kl_penalty
        return reference.State(*parts, *moments, *(float(x) for x in scalars))

    def check(self) -> None:
        """Compares everything; what is float32 in the package, such as settings, limits the precision."""
        got, expected = vars(self.state(self.after)), vars(self.expected)
        expected_metrics = expected.pop("metrics")
        got.pop("metrics")
        for name, value in expected.items():
            for part in value if isinstance(value, dict) else [None]:
                own, theirs = (one[name] if part is None else one[name][part] for one in (got, expected))
                np.testing.assert_allclose(own, theirs, rtol=1e-6, atol=1e-9, err_msg=f"{name} {part}")
        assert set(self.metrics) == set(expected_metrics)
        for name, value in expected_metrics.items():
            np.testing.assert_allclose(self.metrics[name], value, rtol=2e-6, atol=1e-9, err_msg=name)


CASES = {
    "clip": {},
    "minibatch advantages": {"advantage_normalization": "minibatch"},
    "raw advantages": {"advantage_normalization": "none"},
    "penalty": {"loss": "kl_penalty", "target_kl": 0.001},
    "small penalty": {"loss": "kl_penalty", "target_kl": 5.0},
    "policy gradient": {"loss": "policy_gradient", "clip_eps": 0.05},
    "no value loss": {"gae_lambda": 1.0, "value_coef": 0.0},
    "raw returns": {"normalize_returns": False},
    "clipped values": {"value_clip_eps": 0.003, "value_coef": 0.9},
    "entropy": {"entropy_coef": 0.3},
    "linear": {"learning_rate_schedule": "linear", "learning_rate": 0.01},
    "slower": {"learning_rate_schedule": "adaptive_kl", "target_kl": 0.001},
    "faster": {"learning_rate_schedule": "adaptive_kl", "target_kl": 5.0},
    "as fast": {"learning_rate_schedule": "adaptive_kl_linear", "target_kl": 0.013},
    "stops": {"max_kl": 0.003},
    "stops at a step": {"max_kl": 0.015, "kl_stop": "step"},
    "short gradients": {"max_grad_norm": 0.01, "adam_b1": 0.8, "adam_b2": 0.95, "adam_eps": 1e-3},
    "discounts": {"gamma": 0.8, "gae_lambda": 0.5},
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", CASES)
def test_an_update_is_that_of_the_papers(name):
    Case(ppo(**CASES[name])).check()


@pytest.mark.parametrize("name", ["clip", "stops", "stops at a step"])
def test_an_update_for_a_gpu_is_that_of_the_papers(name):
    Case(ppo(**CASES[name]), platform="gpu").check()


def test_the_cases_do_what_they_are_named_for():
    """Where a case no longer reached what it is there for, it would compare nothing of it."""
    plain = Case(ppo())
    metrics = {name: float(value) for name, value in plain.metrics.items()}
    assert 0.1 < metrics["clip_fraction"] < 0.9 and metrics["grad_norm"] > 0.5
    log_std = plain.state(plain.after).params["log_std"]
    assert log_std[1] == POLICY.min_log_std, "held at its bound; so is the other in some steps"
    clipped, free = (Case(ppo(value_clip_eps=eps, value_coef=0.9)).metrics["value_loss"] for eps in (0.003, 0.0))
    assert clipped > 1.005 * free, "the clipped value is the worse one of some samples"
    rates = {name: float(Case(ppo(**CASES[name])).after.learning_rate) for name in ("slower", "faster", "as fast")}
    assert rates["slower"] < rates["as fast"] == 0.006 < rates["faster"]
    penalties = [float(Case(ppo(**CASES[name])).after.kl_penalty) for name in ("penalty", "small penalty")]
    assert penalties == pytest.approx([1.4, 0.35])
    assert int(Case(ppo(**CASES["stops"])).metrics["gradient_steps"]) in (MINIBATCHES, 2 * MINIBATCHES)
    assert int(Case(ppo(**CASES["stops at a step"])).metrics["gradient_steps"]) == 1


@pytest.mark.parametrize("count", [1e-6, 2e-6, 4e-6, 5e-6, 3.0, 500.0])
def test_the_critics_units_follow_the_returns_from_the_first_update_on(count):
    Case(ppo(), RunningMoments(jnp.float64(5.0), jnp.float64(16.0), jnp.float64(count))).check()


def test_one_broken_reward_is_bounded_and_counted():
    spoiled = Case(ppo(), change=lambda batch: batch.replace(reward=batch.reward.at[1, 3, 2].set(1e9)))
    spoiled.check()
    assert int(spoiled.metrics["target_outliers"]) >= 1
    assert float(spoiled.after.return_moments.var) < 100 * 16


def test_minibatches_without_samples_change_nothing_and_do_not_count():
    """As in the last update of a budget: only the first two steps were taken."""
    first_steps = (jnp.arange(T) < 1)[None, :, None]
    short = Case(ppo(num_minibatches=MINIBATCHES), change=lambda batch: batch.replace(valid=batch.valid & first_steps))
    short.check()
    assert int(short.metrics["gradient_steps"]) < EPOCHS * MINIBATCHES


def test_a_gradient_that_is_not_finite_changes_nothing():
    def break_a_ratio(batch):
        first = tuple(np.argwhere(np.asarray(batch.valid))[0])
        return batch.replace(log_prob=batch.log_prob.at[first].set(-1e5))

    broken = Case(ppo(loss="policy_gradient"), change=break_a_ratio)
    skipped = int(broken.metrics["skipped_gradient_steps"])
    assert skipped == EPOCHS, "one minibatch of each epoch has the sample"
    assert all(np.isfinite(x).all() for x in broken.state(broken.after).params.values())
    adam = broken.after.opt_state[1]
    assert int(adam.count) == 7 + EPOCHS * MINIBATCHES - skipped and np.isfinite(adam.mu).all()
