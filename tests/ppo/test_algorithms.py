"""Every algorithm of the family: its settings, its contradictions, the steps that it takes, and that it learns."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from toy import PointMass

import mjxppo
from mjxppo.config.check import make_config
from mjxppo.config.layers import changes_of, resolve
from mjxppo.config.schema import Config
from mjxppo.config.values import merge
from mjxppo.errors import UserError
from mjxppo.ppo import distribution, networks, normalize
from mjxppo.ppo.program import TrainingProgram
from mjxppo.ppo.unknown import with_nan
from mjxppo.ppo.update import estimate_advantages
from mjxppo.run import start
from mjxppo.run.metrics import read_rows

ALGORITHMS = ("ppo", "a2c", "vpg", "reinforce", "trpo", "shac", "es")
SINGLE_STEP = ALGORITHMS[1:]
SIZES = {"num_envs": 32, "block_size": 8, "rollout_length": 20}
REINFORCE = {
    f"{returns}-{baseline}": {"algorithm": "reinforce", "reinforce": {"returns": returns, "baseline": baseline}}
    for returns, baseline in (("whole", "none"), ("to_go", "none"), ("to_go", "constant"), ("to_go", "value"))
}
CRITIC = {"critic": {"epochs": 20, "num_minibatches": 1}}
FAMILY = {"a2c": {"algorithm": "a2c"}, "vpg": {"algorithm": "vpg"} | CRITIC, "trpo": {"algorithm": "trpo"} | CRITIC}
FAMILY |= REINFORCE | {"to_go-value": REINFORCE["to_go-value"] | CRITIC, "shac": {"algorithm": "shac"} | CRITIC}


def config_of(changes: dict[str, Any], every_updates: int = 1) -> Config:
    small = {"ppo": SIZES, "policy": {"hidden_sizes": [16, 16]}, "log": {"every_updates": every_updates}}
    return resolve("point_mass", merge(small, changes))


@functools.cache
def program_of(name: str, every_updates: int = 1) -> TrainingProgram:
    return start.build(config_of(FAMILY[name], every_updates), PointMass())


@pytest.mark.parametrize("env", ["hopper", "half_cheetah", "walker2d", "brax:ant", "gymnasium:Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_brings_settings_that_agree_with_every_task(env, algorithm):
    config = resolve(env, {"algorithm": algorithm})
    assert config.algorithm == algorithm
    assert (config.ppo.loss == "policy_gradient") == (algorithm in SINGLE_STEP)
    changed = resolve(env, {"algorithm": algorithm, "ppo": {"gamma": 0.5}})
    assert changed.ppo.gamma == 0.5, "the user's own settings are stronger"


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("reinforce", {"ppo": {"num_epochs": 4}}, "ppo.num_epochs: must be 1 for reinforce"),
        ("vpg", {"ppo": {"num_epochs": 2}}, "ppo.num_epochs: must be 1 for vpg"),
        ("a2c", {"ppo": {"num_minibatches": 4}}, "ppo.num_minibatches: must be 1 for a2c"),
        ("vpg", {"ppo": {"minibatch_size": 512}}, "ppo.minibatch_size: must be 0 for vpg"),
        ("trpo", {"ppo": {"loss": "kl_penalty"}}, "ppo.loss: must be policy_gradient for trpo"),
        ("vpg", {"ppo": {"loss": "clip"}}, "ppo.loss: must be policy_gradient for vpg"),
        ("ppo", {"ppo": {"loss": "policy_gradient"}}, "ppo.loss: must be clip or kl_penalty for ppo"),
        ("ppo", {"ppo": {"kl_stop": "step"}}, "ppo.kl_stop: step needs a divergence to stop at; set ppo.max_kl"),
        ("vpg", {"ppo": {"max_kl": 0.01}}, "ppo.max_kl: must be 0 for vpg"),
        ("trpo", {"ppo": {"kl_stop": "step"}}, "ppo.kl_stop: must be epoch for trpo"),
        ("trpo", {"ppo": {"max_kl": 0.0}}, "ppo.max_kl: must be above 0 for trpo"),
        ("trpo", {"ppo": {"entropy_coef": 0.01}}, "ppo.entropy_coef: must be 0 for trpo"),
        ("trpo", {"grid": {"ppo.entropy_coef": [0.0, 0.01]}}, "grid: trpo does not use ppo.entropy_coef"),
        ("trpo", {"grid": {"ppo.learning_rate": [1e-3, 1e-4]}}, "grid: trpo does not use ppo.learning_rate"),
        ("reinforce", {"grid": {"ppo.gae_lambda": [0.9, 1.0]}}, "grid: reinforce does not use ppo.gae_lambda"),
        (
            "trpo",
            {"ppo": {"advantage_normalization": "minibatch"}},
            "ppo.advantage_normalization: must be batch or none",
        ),
        ("reinforce", {"init": {"critic_warmup": 2}}, "init.critic_warmup: must be 0 for reinforce with"),
        ("ppo", {"trpo": {"cg_steps": 5}}, "trpo.cg_steps: is of algorithm trpo, and this is ppo"),
        ("vpg", {"reinforce": {"baseline": "value"}}, "reinforce.baseline: is of algorithm reinforce, and this is vpg"),
        ("a2c", {"critic": {"epochs": 7}}, "critic.epochs: is of algorithm vpg, trpo, shac, or reinforce, and this is"),
        (
            "reinforce",
            {"critic": {"epochs": 7}},
            "critic.epochs: is of algorithm vpg, trpo, shac, or reinforce with reinforce.",
        ),
        ("trpo", {"ppo": {"learning_rate_schedule": "linear"}}, "ppo.learning_rate_schedule: must be constant"),
        ("trpo", {"ppo": {"num_microbatches": 2}}, "ppo.num_microbatches: must be 1 for trpo"),
        ("trpo", {"init": {"path": "runs/a", "anchor_coef": 0.1}}, "init.anchor_coef: must be 0 for trpo"),
        ("trpo", {"init": {"step_size_warmup": 3}}, "init.step_size_warmup: must be 0 for trpo"),
        ("trpo", {"critic": {"num_minibatches": 3}}, "critic.num_minibatches: 3 does not divide"),
        ("reinforce", {"ppo": {"stagger_resets": True}}, "ppo.stagger_resets: must be false for reinforce"),
        ("reinforce", {"ppo": {"advantage_normalization": "batch"}}, "ppo.advantage_normalization: must be none"),
        ("vpg", {"distill": {"teacher": "runs/a"}}, "algorithm: must be ppo to distill, not vpg"),
        ("es", {"ppo": {"num_epochs": 4}}, "ppo.num_epochs: must be 1 for es"),
        ("es", {"ppo": {"loss": "clip"}}, "ppo.loss: must be policy_gradient for es"),
        ("es", {"ppo": {"value_coef": 1.0}}, "ppo.value_coef: is not used by es, which has no critic"),
        ("es", {"ppo": {"gae_lambda": 0.9}}, "ppo.gae_lambda: is not used by es"),
        ("es", {"ppo": {"entropy_coef": 0.01}}, "ppo.entropy_coef: is not used by es"),
        ("es", {"ppo": {"normalize_returns": False}}, "ppo.normalize_returns: is not used by es"),
        ("es", {"ppo": {"stagger_resets": True}}, "ppo.stagger_resets: must be false for es"),
        ("es", {"ppo": {"learning_rate_schedule": "adaptive_kl"}}, "ppo.learning_rate_schedule: must be constant or"),
        ("es", {"ppo": {"num_envs": 99, "block_size": 33}}, "ppo.block_size: must be a multiple of 2 * es.worlds_per"),
        (
            "es",
            {"es": {"worlds_per_candidate": 3}},
            "ppo.block_size: must be a multiple of 2 * es.worlds_per_candidate",
        ),
        ("es", {"es": {"sigma": 0.0}}, "es.sigma: input should be greater than 0"),
        ("es", {"es": {"rank": -1}}, "es.rank: input should be greater than or equal to 0"),
        ("es", {"es": {"shaping": "rank"}}, "es.shaping: input should be"),
        ("es", {"policy": {"critic_hidden_sizes": [8]}}, "policy.critic_hidden_sizes: is not used by es"),
        ("es", {"policy": {"privileged": "critic"}}, "policy.privileged: must be none or both for es"),
        (
            "es",
            {"policy": {"final_min_log_std": -1.8}},
            "policy.final_min_log_std: is not used by es, whose policy acts without noise",
        ),
        ("es", {"init": {"carry": ["policy", "critic", "normalizer"]}}, "init.carry: must be without critic for es"),
        ("es", {"init": {"critic_warmup": 1}}, "init.critic_warmup: must be 0 for es"),
        ("es", {"init": {"path": "runs/a", "anchor_coef": 0.1}}, "init.anchor_coef: must be 0 for es"),
        ("es", {"critic": {"epochs": 7}}, "critic.epochs: is of algorithm vpg, trpo, shac, or reinforce"),
        ("es", {"distill": {"teacher": "runs/a"}}, "algorithm: must be ppo to distill, not es"),
        ("es", {"grid": {"ppo.gae_lambda": [0.9, 1.0]}}, "grid: es does not use ppo.gae_lambda"),
        ("ppo", {"es": {"sigma": 0.1}}, "es.sigma: is of algorithm es, and this is ppo"),
        ("sac", {}, "algorithm: input should be"),
        ("../hopper", {}, "algorithm: input should be"),
        (["vpg"], {}, "algorithm: input should be"),
    ],
)
def test_settings_that_contradict_the_algorithm_are_refused_in_one_line(algorithm, changes, message):
    with pytest.raises(UserError) as refused:
        resolve("hopper", {"algorithm": algorithm, **changes})
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_an_algorithm_replaces_the_settings_of_files_that_name_another(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("env: hopper\nalgorithm: ppo\nppo: {num_epochs: 7, gamma: 0.9}\nlog: {every_updates: 3}\n")
    changed = resolve("hopper", changes_of([file], {"algorithm": "trpo"}))
    assert (changed.ppo.num_epochs, changed.ppo.gamma, changed.log.every_updates) == (1, 0.9, 3)
    assert resolve("hopper", changes_of(["hopper_randomized"], {"algorithm": "vpg"})).randomize.on
    file.write_text("algorithm: trpo\nppo: {max_kl: 0.05}\n")
    assert resolve("hopper", changes_of([file], {"algorithm": "trpo"})).ppo.max_kl == 0.05, "it is the file's own"
    assert resolve("hopper", changes_of([file], {})).ppo.max_kl == 0.05


def test_configurations_of_earlier_runs_are_read():
    assert make_config({"env": "hopper", "ppo": {"baseline": True}}) == make_config({"env": "hopper"})
    with pytest.raises(UserError, match=r"ppo.baseline: no such field"):
        make_config({"env": "hopper", "ppo": {"baseline": False}})


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (PointMass(2**31 - 1), {}, "algorithm: reinforce needs episodes that end, and point_mass has no time limit"),
        (PointMass(21), {}, "ppo.rollout_length: must be at least the time limit of point_mass, 21"),
        ("gymnasium:Pendulum-v1", {"ppo": {"rollout_length": 199}}, "ppo.rollout_length: must be at least the time"),
    ],
)
def test_tasks_whose_episodes_cannot_be_whole_are_refused(task, changes, message):
    with pytest.raises(UserError) as refused:
        start.build(config_of({"algorithm": "reinforce", **changes}), task)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_es_refuses_worlds_on_the_host():
    with pytest.raises(UserError, match=r"^algorithm: es needs thousands of worlds, and .* choose reinforce$"):
        start.build(config_of({"algorithm": "es"}), "gymnasium:Pendulum-v1")


def one_update(name: str) -> tuple[TrainingProgram, Any, Any, dict[str, np.ndarray]]:
    """The program, learner and batch of its fourth update, the learner after that, and its metrics."""
    program = program_of(name)
    state, budget = program.init(), program.budget(10**6)
    for _ in range(3):
        state, _ = program.train_chunk(state, budget)
    before = jax.tree.map(jnp.copy, state)
    state, metrics = program.train_chunk(state, budget)
    return program, before, state, {name: np.asarray(value[0]) for name, value in metrics.items()}


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", FAMILY)
def test_each_takes_one_step_on_a_batch(name):
    program, before, after, metrics = one_update(name)
    assert int(metrics["gradient_steps"]) == 1
    critics_own = name in ("vpg", "trpo", "to_go-value", "shac")
    assert int(metrics.get("critic_gradient_steps", 0)) == (20 if critics_own else 0)
    counted = [int(state.learner.opt_state[1].count) for state in (before, after)]
    assert counted[1] - counted[0] == (0 if name == "trpo" else 1)
    if critics_own:
        assert int(after.learner.critic_opt_state[1].count) == 4 * 20
    critic = [state.learner.params["params"]["critic"] for state in (before, after)]
    moved = any((np.asarray(x) != np.asarray(y)).any() for x, y in zip(*map(jax.tree.leaves, critic), strict=True))
    if name in ("whole-none", "to_go-none", "to_go-constant"):
        # Only its units may move, with those of the returns (PopArt).
        hidden = [tree["hidden_0"]["kernel"] for tree in critic]
        np.testing.assert_array_equal(*hidden)
    else:
        assert moved
    if name == "trpo":
        assert metrics["step_accepted"] and 0 < metrics["trust_region_kl"] <= program.config.ppo.max_kl


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", [name for name in FAMILY if name not in ("trpo", "a2c", "shac")])
def test_the_step_is_along_the_gradient_of_log_density_times_weight(name):
    """The log-derivative trick, written out: no ratio, and weights from the returns by a loop over steps."""
    program, before, after, _ = one_update(name)
    config = program.config
    _, batch, last_obs = program.rollout_only(before, jnp.int32(10**6))
    batch = jax.tree.map(np.asarray, batch)
    algorithm = program.algorithm(config.ppo)
    weight = batch.valid.astype(np.float64)
    mean_over = lambda x: (x * weight).sum() / weight.sum()  # noqa: E731
    if config.algorithm == "reinforce":
        to_go, following = np.zeros(weight.shape), np.zeros(weight[:, 0].shape)
        for t in reversed(range(weight.shape[1])):
            following = np.where(batch.valid[:, t], batch.reward[:, t] + config.ppo.gamma * following, 0)
            to_go[:, t] = following
        advantage = to_go if config.reinforce.returns == "to_go" else to_go[:, :1] + 0 * to_go
        if config.reinforce.baseline == "constant":
            advantage = advantage - mean_over(advantage)
        if config.reinforce.baseline == "value":
            value = networks.apply_value(program.network, before.learner.params, batch.obs)
            moments = before.learner.return_moments
            advantage = advantage - (np.asarray(value) * np.sqrt(float(moments.var)) + float(moments.mean))
    else:
        learner = before.learner
        advantage = np.asarray(estimate_advantages(algorithm, learner, batch, last_obs).advantage, np.float64)
        advantage = (advantage - mean_over(advantage)) / np.sqrt(mean_over((advantage - mean_over(advantage)) ** 2))

    def objective(params: Any) -> jax.Array:
        mean, log_std = networks.apply_policy(program.network, params, batch.obs)
        log_density = distribution.gaussian_log_prob(batch.u, mean, log_std)
        return -(log_density * advantage * weight).sum() / weight.sum()

    gradient = ravel_pytree(networks.actor_of(jax.grad(objective)(before.learner.params)))[0]
    # Adam's first moment holds the gradient: it decays by b1, and takes 1 - b1 of the new one.
    unravel = ravel_pytree(before.learner.params)[1]
    first = [ravel_pytree(networks.actor_of(unravel(s.learner.opt_state[1].mu)))[0] for s in (before, after)]
    taken = (first[1] - config.ppo.adam_b1 * first[0]) / (1 - config.ppo.adam_b1)
    np.testing.assert_allclose(taken, gradient, rtol=2e-3, atol=2e-4 * np.abs(gradient).max())


@pytest.mark.usefixtures("compiled_quickly")
def test_the_critics_own_steps_are_adams_on_the_squared_error():
    program, before, after, _ = one_update("vpg")
    algorithm = program.algorithm(program.config.ppo)
    _, batch, last_obs = program.rollout_only(before, jnp.int32(10**6))
    target = estimate_advantages(algorithm, before.learner, batch, last_obs).target
    moments = after.learner.return_moments
    target = normalize.standardize(moments, target)
    old_std, new_std = (jnp.sqrt(s.learner.return_moments.var + 1e-8) for s in (before, after))
    old_mean = before.learner.return_moments.mean
    start_from = networks.rescale_value_head(before.learner.params, old_mean, old_std, moments.mean, new_std)
    critic = start_from["params"]["critic"]
    adam = optax.adam(1e-3, eps=program.config.ppo.adam_eps)
    own = before.learner.critic_opt_state[1]
    unravel = ravel_pytree(before.learner.params)[1]
    moments_of = lambda flat: unravel(flat)["params"]["critic"]  # noqa: E731
    state = (optax.ScaleByAdamState(own.count, moments_of(own.mu), moments_of(own.nu)), adam.init(critic)[1])

    def loss(critic: Any) -> jax.Array:
        value = networks.apply_value(program.network, {"params": {**start_from["params"], "critic": critic}}, batch.obs)
        return 0.5 * (jnp.square(value - target) * batch.valid).sum() / batch.valid.sum()

    @jax.jit
    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        critic, state = carry
        error, gradient = jax.value_and_grad(loss)(critic)
        updates, state = adam.update(gradient, state)
        return (optax.apply_updates(critic, updates), state), error

    (expected, _), errors = jax.lax.scan(step, (critic, state), None, length=20)
    assert errors[-1] < errors[0]
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own, other, rtol=5e-3, atol=5e-4),
        after.learner.params["params"]["critic"],
        expected,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive)
        if name.endswith(("-none", "constant", "a2c", "shac"))
        else name
        for name in FAMILY
    ],
)
def test_each_learns(name):
    updates = {"trpo": 60, "vpg": 150}.get(name, 300)
    rate = {} if name == "trpo" else {"learning_rate": 1e-2 if name != "vpg" else 3e-3}
    config = config_of(merge(FAMILY[name], {"ppo": rate}), updates)
    program = start.build(config, PointMass())
    _, metrics = program.train_chunk(program.init(), program.budget(updates * 640))
    returns = with_nan(jax.device_get(metrics))["episode_return"]
    first, last = np.nanmean(returns[:8]), np.nanmean(returns[-8:])
    assert last > first / 2 and last > first + 1, (first, last)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_trust_region_holds_in_every_update():
    program = program_of("trpo", 40)
    _, metrics = program.train_chunk(program.init(), program.budget(10**6))
    kl, accepted = np.asarray(metrics["trust_region_kl"]), np.asarray(metrics["step_accepted"])
    assert (kl <= program.config.ppo.max_kl).all() and accepted.mean() > 0.9
    # The estimate does not know of the exact one. It is larger: the step was fitted to the samples that it is from.
    assert 0.5 < np.asarray(metrics["approx_kl"]).mean() / kl.mean() < 2


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", ["trpo", "to_go-value", "shac"])
def test_two_devices_and_two_seeds_train_as_one(name):
    alone = start.build(config_of(merge(FAMILY[name], {"num_devices": 1})), PointMass())
    state, metrics = alone.train_chunk(alone.init(), alone.budget(10**6))
    shared = start.build(config_of(merge(FAMILY[name], {"num_devices": 2})), PointMass())
    other, other_metrics = shared.train_chunk(shared.init(), shared.budget(10**6))
    for own, theirs in ((state.learner.params, other.learner.params), (metrics, other_metrics)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-4), own, theirs)
    seeds = start.build(config_of(merge(FAMILY[name], {"num_seeds": 2})), PointMass())
    several, _ = seeds.train_chunk(seeds.init(), seeds.budget(10**6))
    first = jax.tree.map(lambda x: x[0], several.learner.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-4), first, state.learner.params)


class Edge(PointMass):
    """Some worlds begin near the border, where an episode soon ends."""

    name = "edge"

    def initial(self, keys: jax.Array) -> Any:
        return {"x": jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-2.95, maxval=2.95))(keys)}


@pytest.mark.exhaustive
def test_members_whose_episodes_differ_in_length_all_train_to_the_end(tmp_path):
    """With reinforce each member takes its own number of steps in an update, and of updates in a run."""
    total = 3000
    sizes = {"num_envs": 8, "block_size": 4, "rollout_length": 20}
    settings = {"algorithm": "reinforce", "ppo": sizes, "log": {"every_updates": 2, "tensorboard": False}}
    settings |= {"num_seeds": 3, "total_env_steps": total, "checkpoint": {"every_updates": 6}}
    runs = mjxppo.train_policies(Edge(), config=settings, run_dir=tmp_path / "whole")
    rows = [read_rows(directory) for directory in sorted((tmp_path / "whole").glob("seed-*"))]
    assert [own[-1]["env_steps"] for own in rows] == [total] * 3
    assert len({len(own) for own in rows}) > 1, "the case that is tested"
    for own in rows:
        assert [row["update"] for row in own] == list(range(1, len(own) + 1))
    assert len(runs) == 3

    class Stop(Exception):
        pass

    def stop(rows: list[Any]) -> None:
        if rows[-1]["update"] >= 14:
            raise Stop

    with pytest.raises(Stop):
        mjxppo.train_policies(Edge(), config=settings, run_dir=tmp_path / "broken", on_metrics=stop)
    mjxppo.train_policies(Edge(), run_dir=tmp_path / "broken", resume=True)
    timeless = [
        [{name: value for name, value in row.items() if name not in ("time_s", "env_steps_per_s")} for row in own]
        for own in rows
    ]
    for own, directory in zip(timeless, sorted((tmp_path / "broken").glob("seed-*")), strict=True):
        again = [{name: row[name] for name in own[0]} for row in read_rows(directory)]
        assert again == own


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", ["trpo", "vpg", pytest.param("shac", marks=pytest.mark.exhaustive)])
def test_a_log_std_out_of_bounds_stays_while_only_the_critic_learns(name):
    changes = merge(FAMILY[name], {"policy": {"std": "state_independent"}, "init": {"critic_warmup": 1}})
    program = start.build(config_of(changes), PointMass())
    state = program.init()
    actor = state.learner.params["params"]["actor"]
    below = jax.tree.map(lambda x: x, state.learner.params)
    below["params"]["actor"] = {**actor, "log_std": jnp.full_like(actor["log_std"], -2.5)}
    state = state.replace(learner=state.learner.replace(params=below))
    state, _ = program.train_chunk(program.place(state), program.budget(10**6))
    np.testing.assert_array_equal(state.learner.params["params"]["actor"]["log_std"], -2.5)
    state, metrics = program.train_chunk(state, program.budget(10**6))
    if name == "trpo":
        assert metrics["step_accepted"][0] and metrics["trust_region_kl"][0] <= program.config.ppo.max_kl


@pytest.mark.exhaustive
def test_the_discounted_return_is_that_of_the_sweeps_member():
    """gamma may differ between members: it is an array then."""
    changes = merge(REINFORCE["to_go-none"], {"grid": {"ppo.gamma": [0.5, 0.99]}})
    program = start.build(config_of(changes), PointMass())
    _, metrics = program.train_chunk(program.init(), program.budget(10**6))
    means = np.asarray(metrics["value_target_mean"])[:, 0]
    assert means[1] < means[0] < 0, "all rewards are negative; with less discount more of them count"
