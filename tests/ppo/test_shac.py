"""SHAC: its derivative by hand and by finite differences, what is left out of it, and what it learns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY
from jax.flatten_util import ravel_pytree
from toy import Bandit, PointMass

import mjxppo
from mjxppo import envs
from mjxppo.config.layers import resolve
from mjxppo.config.schema import Config, PolicyConfig, PpoConfig, ShacConfig
from mjxppo.config.values import merge
from mjxppo.envs import Environment
from mjxppo.envs.task import Task
from mjxppo.errors import UserError
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.planar import PlanarPhysics
from mjxppo.ppo import losses, networks, normalize
from mjxppo.ppo.collective import Devices
from mjxppo.ppo.gradient import Algorithm, StepSettings, optimizer
from mjxppo.ppo.rollout import BehaviorPolicy, rollout
from mjxppo.ppo.shac.critic import with_target_critic
from mjxppo.ppo.shac.horizon import HorizonDerivative, bound_worlds, objective_of_steps
from mjxppo.ppo.shac.rollout import differentiated_rollout
from mjxppo.ppo.shac.step import analytic_step
from mjxppo.ppo.state import Learner
from mjxppo.ppo.update import take_steps
from mjxppo.run import checkpoint, start
from mjxppo.run.metrics import read_rows

N, GAMMA, MANY = 6, 0.9, 10**6


class Problem:
    """A task, a policy and a critic with random parameters, in the precision that JAX works in."""

    def __init__(self, task: Task, horizon: int, seed: int = 0, budget: int = MANY, normalized: bool = True):
        rng = np.random.default_rng(seed)
        self.env = Environment(task)
        self.policy_config = PolicyConfig(hidden_sizes=(5,), std="state_dependent", init_log_std=-0.7)
        self.config = PpoConfig(
            num_envs=N, block_size=N, rollout_length=horizon, gamma=GAMMA, max_grad_norm=1e6, normalize_obs=normalized
        )
        self.network = networks.build(task.action_size, self.policy_config)
        fresh = networks.init_params(self.network, task.obs_size, jax.random.key(seed))
        self.params = jax.tree.map(lambda x: jnp.asarray(0.6 * rng.normal(size=x.shape)), fresh)
        some = rng.uniform(0.5, 2.0, size=task.obs_size)
        self.moments = normalize.RunningMoments(jnp.asarray(some - 1), jnp.asarray(some), jnp.float32(100))
        self.units = normalize.RunningMoments(jnp.asarray(0.3), jnp.asarray(4.0), jnp.float32(10))
        self.state = self.env.reset(jax.random.split(jax.random.key(seed + 1), N))
        if jax.config.jax_enable_x64:
            widen = lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
            self.state = jax.tree.map(widen, self.state)
        self.budget = jnp.int32(budget)
        key = jax.random.key(5)

        def collect(params: Any, state: Any) -> Any:
            policy = BehaviorPolicy(self.network, params, self.moments)
            given = self.env, policy, state, jnp.arange(N), key, self.budget
            return differentiated_rollout(*given, config=self.config, return_moments=self.units)

        def act(params: Any, state: Any) -> Any:
            policy = BehaviorPolicy(self.network, params, self.moments)
            return rollout(self.env, policy, state, jnp.arange(N), key, self.budget, config=self.config)

        self.collect, self.act = (jax.jit(f, compiler_options=QUICKLY) for f in (collect, act))

    @functools.cached_property
    def batch(self) -> Any:
        return jax.device_get(self.collect(self.params, self.state)[1])

    def value(self, obs: jax.Array) -> jax.Array:
        """The critic's values of observations [..., obs_size], in units of the reward."""
        seen = normalize.network_obs(self.moments, obs, self.config.normalize_obs)
        return networks.apply_value(self.network, self.params, seen) * jnp.sqrt(4.0 + 1e-8) + 0.3

    def objective(self, params: Any) -> jax.Array:
        """The sum over worlds, by a rollout that is not differentiated, mean over the steps."""
        _, batch, last_obs, _ = self.act(params, self.state)
        last = networks.apply_value(self.network, params, last_obs)
        final, last = (x * jnp.sqrt(self.units.var + 1e-8) + self.units.mean for x in (batch.final_value, last))
        given = batch.reward, batch.terminated, batch.truncated, final, last, jnp.ones_like(batch.truncated)
        return objective_of_steps(*given, GAMMA).sum() / batch.reward.size

    def given(self, batch: Any, learns: bool | None) -> tuple[Algorithm, Any, losses.Samples, Any, StepSettings]:
        """What a step takes, for a step size of 1."""
        batch = jax.tree.map(lambda x: x[None], jax.tree.map(jnp.asarray, self.batch if batch is None else batch))
        algorithm = Algorithm(self.network, self.policy_config, self.config, Devices(1), shac=ShacConfig())
        zeros = jnp.zeros(batch.reward.shape)
        samples = losses.Samples(batch.obs, batch.u, batch.log_prob, zeros, zeros, zeros, batch.valid)
        policy_learns = None if learns is None else jnp.array(learns)
        settings = StepSettings(jnp.asarray(1.0), jnp.asarray(-2.0), policy_learns, jnp.asarray(0.0), jnp.asarray(0.0))
        opt_state = optimizer(self.config).init(ravel_pytree(self.params)[0])
        return algorithm, opt_state, samples, batch.derivative, settings

    def step(self, batch: Any = None, learns: bool | None = None) -> tuple[Any, Any, Any, dict[str, Any]]:
        """The step of the policy on the batch, along the derivative as it is."""
        algorithm, opt_state, *given = self.given(batch, learns)
        return analytic_step(algorithm, opt_state, self.params, *given)

    def update(self, batch: Any) -> Any:
        """The parameters after an update's step on the batch."""
        algorithm, opt_state, samples, derivative, settings = self.given(batch, None)
        learner = Learner(self.params, opt_state, self.moments, self.units, jnp.asarray(1.0), jnp.asarray(0.0))
        return take_steps(algorithm, learner, samples, jax.random.key(0), settings, derivative)[0].params

    def gradient(self) -> np.ndarray:
        """The gradient of ``objective`` by the parameters as the step takes it, from Adam's first moment, [P]."""
        return -np.asarray(self.step()[1][1].mu) / (1 - self.config.adam_b1)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


POLES = """
<mujoco>
  <option timestep="0.01" integrator="RK4"/>
  <default><geom type="capsule" size="0.04" contype="0" conaffinity="0"/></default>
  <worldbody>
    <body>
      <joint type="hinge" axis="0 1 0" damping="0.1"/><geom fromto="0 0 0 0 0 0.4"/>
      <body pos="0 0 0.4"><joint name="upper" type="hinge" axis="0 1 0"/><geom fromto="0 0 0 0 0 0.3"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="upper" gear="2"/></actuator>
</mujoco>
"""


class Poles(Task):
    """Two poles in the air, to be held upright by the joint between them."""

    name, gym_id, obs_size, action_size, step_duration, max_episode_steps = "poles", None, 4, 1, 0.02, 6

    def __init__(self) -> None:
        self.physics = PlanarPhysics(mujoco.MjModel.from_xml_string(POLES), 2)

    def initial(self, keys: jax.Array) -> Any:
        both = jax.vmap(lambda key: jax.random.normal(key, (2, 2)))(keys)
        return self.physics.init(0.3 * both[:, 0], both[:, 1])

    def observe(self, worlds: Any) -> jax.Array:
        return jnp.concatenate([jnp.sin(worlds.qpos), worlds.qvel], axis=-1)

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved = self.physics.step(worlds, action)
        terms = {"upright": jnp.cos(moved.qpos).sum(-1), "control": -0.1 * jnp.square(action).sum(-1)}
        return moved, terms, jnp.zeros(action.shape[0], bool)


def check_against_finite_differences(problem: Problem, tolerance: float) -> None:
    gradient = problem.gradient()
    flat, unravel = ravel_pytree(problem.params)
    actor = np.asarray(ravel_pytree(networks.is_actor(problem.params))[0])
    np.testing.assert_array_equal(gradient[~actor], 0)
    rng = np.random.default_rng(3)
    for _ in range(4):
        direction = jnp.asarray(np.where(actor, rng.normal(size=flat.size), 0))
        ahead, behind = (float(problem.objective(unravel(flat + h * direction))) for h in (1e-6, -1e-6))
        np.testing.assert_allclose(gradient @ direction, (ahead - behind) / 2e-6, rtol=tolerance)


@pytest.mark.usefixtures("float64")
def test_the_gradient_is_that_of_finite_differences_through_physics_policy_and_ends():
    """Two poles for 8 steps; the time limit of 6 ends episodes within them."""
    problem = Problem(Poles(), horizon=8)
    assert problem.batch.truncated.any() and problem.batch.derivative.kept.all()
    np.testing.assert_allclose(problem.batch.derivative.objective.sum(), 8 * N * problem.objective(problem.params))
    check_against_finite_differences(problem, 1e-6)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("env", ["hopper", "half_cheetah"])
def test_the_gradient_is_that_of_finite_differences_for_a_robot_in_the_air(env):
    problem = Problem(envs.make(env, backend="planar").task, horizon=8)
    worlds = problem.state.worlds
    raised = replace(worlds, qpos=worlds.qpos.at[:, 1].add(5.0))
    problem.state = replace(problem.state, worlds=raised, obs=problem.env.task.observe(raised))
    check_against_finite_differences(problem, 1e-5)


class Tiring(PointMass):
    """The point's next episode begins where the last one ended, turned; a short way from the origin ends one."""

    def restart(self, worlds: Any, ended: Any, keys: jax.Array) -> Any:
        return {"x": -0.5 * worlds["x"]}

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved, terms, _ = super().advance(worlds, action)
        return moved, terms, jnp.abs(moved["x"]).max(-1) > 0.9


def by_hand(problem: Problem) -> np.ndarray:
    """The derivative of the objective by each action, where actions do not depend on observations, [T, N, 2].

    Backwards from each piece's end: x[t + 1] = x[t] + 0.3 a[t], and the reward is -|x[t + 1]|^2.
    """
    batch, task = problem.batch, problem.env.task
    slope = jax.jit(jax.vmap(jax.grad(lambda x: problem.value(task.observe({"x": x[None]})[0]))))
    before, action = np.asarray(batch.obs[..., :2], float), np.tanh(np.asarray(batch.u, float))
    after = before + 0.3 * action
    of_value = np.stack([np.asarray(slope(jnp.asarray(x))) for x in after])
    found, horizon = np.zeros(action.shape), len(action)
    for i in range(N):
        starts = [0, *(t + 1 for t in range(horizon) if batch.terminated[t, i] or batch.truncated[t, i])]
        for first, end in zip(starts, [*starts[1:], horizon], strict=True):
            after_end = 0.0
            for t in reversed(range(first, end)):
                if t == end - 1 and not batch.terminated[t, i]:
                    after_end = GAMMA ** (end - first) * of_value[t, i]
                after_end = after_end - 2 * GAMMA ** (t - first) * after[t, i]
                found[t, i] = 0.3 * after_end
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("limit", "horizon"), [(20, 4), (3, 7), (3, 6)])
def test_the_derivative_is_the_analytic_one_and_does_not_pass_through_an_end(limit, horizon):
    """Episodes that a time limit ends have a value after them, those that the task ends have none."""
    problem = Problem(Tiring(limit), horizon, normalized=False)
    # The policy's outputs do not depend on what it sees.
    problem.params["params"]["actor"]["mlp"]["hidden_0"]["kernel"] *= 0
    batch = problem.batch
    assert batch.terminated.any() and not batch.terminated.all() and batch.truncated.any() == (limit == 3)
    expected = by_hand(problem) * (1 - np.tanh(batch.u) ** 2)
    by_mean, by_log_std = batch.derivative.by_outputs
    np.testing.assert_allclose(by_mean, expected, rtol=1e-5, atol=1e-8)
    mean = networks.apply_policy(problem.network, problem.params, batch.obs)[0]
    np.testing.assert_allclose(by_log_std, expected * (batch.u - mean), rtol=1e-5, atol=1e-8)
    # What is left of an analytic gradient: outputs of one layer's biases, which all steps share.
    head = problem.gradient()[ravel_pytree(_only_head_bias(problem.params))[0] > 0]
    both = np.concatenate([expected, by_log_std * _through_softplus(problem)], axis=-1)
    np.testing.assert_allclose(head, both.sum((0, 1)) / expected[..., 0].size, rtol=1e-5)


def _only_head_bias(params: Any) -> Any:
    """1 for the biases of the policy's outputs, 0 elsewhere."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    head = zeros["params"]["actor"]["mlp"]["head"]
    head["bias"] = jnp.ones_like(head["bias"])
    return zeros


def _through_softplus(problem: Problem) -> np.ndarray:
    """Derivative of the log-std by the output that stands for it, [2]."""
    raw = networks.Mlp((5,), 4, "tanh", 1.0, "orthogonal").apply(
        {"params": problem.params["params"]["actor"]["mlp"]}, jnp.zeros(3)
    )[2:]
    log_std = lambda x: networks.state_dependent_log_std(x, -0.7, -2.0)  # noqa: E731
    return np.asarray(jax.vmap(jax.grad(log_std))(raw))


class Step(PointMass):
    """The reward is 1 right of the origin and 0 left of it."""

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved, _, terminated = super().advance(worlds, action)
        return moved, {"right": (moved["x"][:, 0] > 0).astype(action.dtype)}, terminated


def test_a_step_of_the_reward_has_no_derivative():
    """The bias of first-order gradients: what is seen is flat, though to go right would pay."""
    problem = Problem(Step(), horizon=5)
    problem.params["params"]["critic"]["head"]["kernel"] *= 0
    reward, derivative = problem.batch.reward, problem.batch.derivative
    assert 0 < reward.mean() < 1 and derivative.kept.all()
    assert all((x == 0).all() for x in derivative.by_outputs)
    assert (problem.gradient() == 0).all()


class Infinite(PointMass):
    """In worlds that begin on the right, the reward is finite and its derivative is not."""

    def initial(self, keys: jax.Array) -> Any:
        x = super().initial(keys)["x"]
        return {"x": x, "bad": (x[:, 0] > 0).astype(x.dtype)}

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved, terms, terminated = super().advance({"x": worlds["x"]}, action)
        root = jnp.sqrt(jnp.where(worlds["bad"] > 0, 0 * moved["x"][:, 0], 1))
        return worlds | moved, terms | {"root": jnp.where(worlds["bad"] > 0, root, 0)}, terminated


def test_worlds_whose_gradient_is_not_finite_are_left_out_and_counted():
    problem, whole = Problem(Infinite(), horizon=5), Problem(PointMass(), horizon=5)
    bad = np.asarray(problem.state.worlds["bad"]) > 0
    assert 0 < bad.sum() < N
    own, sound = problem.batch.derivative, whole.batch.derivative
    np.testing.assert_array_equal(own.left_out.sum(0), bad)
    np.testing.assert_array_equal(own.kept, np.broadcast_to(~bad, own.kept.shape))
    for x, y in zip(own.by_outputs, sound.by_outputs, strict=True):
        assert (x[:, bad] == 0).all()
        np.testing.assert_allclose(x[:, ~bad], y[:, ~bad], rtol=1e-5, atol=1e-7)
    # The rest's gradient is their mean, as if there were no others.
    alone = jax.tree.map(lambda x: x[:, ~bad], replace(whole.batch, episode=None))
    theirs = whole.step(alone)
    params, _, metrics, extra = problem.step(replace(problem.batch, episode=None))
    assert int(extra["nonfinite_gradients"]) == bad.sum() and not bool(metrics.skipped)
    np.testing.assert_allclose(metrics.grad_norm, theirs[2].grad_norm, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(theirs[0]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_the_derivative_of_a_world_is_at_most_as_long_as_the_geometric_mean():
    by_mean = jnp.array([[[3.0], [0.0], [10.0], [1000.0]], [[4.0], [0.0], [0.0], [0.0]]])[None]  # [1 block, T, B, 1]
    kept = jnp.ones(by_mean.shape[:-1], bool).at[:, :, 1].set(False)
    given = HorizonDerivative((by_mean, jnp.zeros_like(by_mean)), kept * 1.0, kept, ~kept)
    bounded, log_std = bound_worlds(given, Devices(1)).by_outputs
    mean = (5.0 * 10.0 * 1000.0) ** (1 / 3)
    np.testing.assert_allclose(bounded[0, :, :, 0], [[3, 0, 10, mean], [4, 0, 0, 0]], rtol=1e-6)
    assert (log_std == 0).all()


def test_an_update_bounds_the_derivatives_of_worlds():
    problem = Problem(PointMass(), horizon=3)
    derivative = problem.batch.derivative
    factor = np.where(np.arange(N) == 1, 1e4, 1)[:, None]
    long = replace(derivative, by_outputs=tuple(x * factor for x in derivative.by_outputs))
    stepped = problem.update(replace(problem.batch, derivative=long))
    bounded = bound_worlds(jax.tree.map(lambda x: jnp.asarray(x)[None], long), Devices(1))
    expected = problem.step(replace(problem.batch, derivative=jax.tree.map(lambda x: x[0], bounded)))[0]
    actors = (jax.tree.leaves(params["params"]["actor"]) for params in (stepped, expected))
    for x, y in zip(*actors, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_an_update_without_any_finite_gradient_is_skipped_and_counted():
    problem = Problem(PointMass(), horizon=3)
    batch = problem.batch
    nothing = jax.tree.map(np.zeros_like, batch.derivative)
    left_out = nothing.left_out.copy()
    left_out[0] = True
    for broken in (
        replace(nothing, left_out=left_out),
        replace(batch.derivative, by_outputs=tuple(np.full_like(x, 1e30) for x in batch.derivative.by_outputs)),
    ):
        params, opt_state, metrics, _ = problem.step(replace(batch, derivative=broken))
        jax.tree.map(np.testing.assert_array_equal, params, problem.params)
        assert bool(metrics.skipped) and int(metrics.taken) == 1 and int(opt_state[1].count) == 0
        assert np.isfinite(metrics.grad_norm)


class Breaking(PointMass):
    """Worlds that begin on the right become infinite at their first step."""

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved, terms, terminated = super().advance(worlds, action)
        broken = (worlds["x"][:, 0] > 0.3)[:, None]
        return {"x": jnp.where(broken, jnp.inf, moved["x"])}, terms, terminated


def test_worlds_that_break_within_the_horizon_are_left_out():
    problem = Problem(Breaking(), horizon=4)
    broke = ~problem.batch.valid.all(0)
    assert 0 < broke.sum() < N
    np.testing.assert_array_equal(problem.batch.derivative.left_out.sum(0), broke)
    assert all(np.isfinite(x).all() for x in problem.batch.derivative.by_outputs)
    assert np.abs(problem.gradient()).max() > 0


def test_a_budget_that_ends_within_the_horizon_shortens_it():
    budget = 3 * N + 2
    whole, cut = Problem(PointMass(), horizon=4), Problem(PointMass(), horizon=6, budget=budget)
    kept = cut.batch.derivative.kept
    np.testing.assert_array_equal(kept.ravel(), np.arange(kept.size) < budget)
    for x, y in zip(cut.batch.derivative.by_outputs, whole.batch.derivative.by_outputs, strict=True):
        np.testing.assert_allclose(x[:4, :2], y[:, :2], rtol=1e-5, atol=1e-7)
        assert (x[~kept] == 0).all()


def test_the_rollout_is_the_one_that_other_algorithms_take():
    problem = Problem(PointMass(4), horizon=7)
    other = problem.act(problem.params, problem.state)
    own = problem.collect(problem.params, problem.state)
    own = (own[0], replace(own[1], derivative=None), *own[2:])

    def check(x: Any, y: Any) -> None:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)

    jax.tree.map(check, own, other)


def test_the_policy_stays_while_only_the_critic_learns():
    problem = Problem(PointMass(), horizon=3)
    params, opt_state, metrics, _ = problem.step(learns=False)
    jax.tree.map(np.testing.assert_array_equal, params, problem.params)
    assert np.abs(opt_state[1].mu).max() > 0 and int(metrics.taken) == 1


SMALL = {
    "algorithm": "shac",
    "ppo": {"num_envs": 32, "block_size": 16, "rollout_length": 8},
    "policy": {"hidden_sizes": [16]},
    "critic": {"epochs": 4, "num_minibatches": 2},
}


def config_of(changes: Mapping[str, Any]) -> Config:
    return resolve("point_mass", merge(merge(SMALL, {"log": {"every_updates": 1}}), changes))


@pytest.mark.usefixtures("compiled_quickly")
def test_the_target_critic_follows_the_critic_in_the_same_units():
    program = start.build(config_of({"shac": {"target_decay": 0.9}, "num_devices": 1}), PointMass())
    before = program.init()
    start_from = jax.tree.map(np.asarray, before.learner.params["params"]["critic"])
    jax.tree.map(np.testing.assert_array_equal, before.learner.target_critic, start_from)
    after, metrics = program.train_chunk(before, program.budget(MANY))
    learner, moments = after.learner, after.learner.return_moments
    std, mean = np.sqrt(float(moments.var) + 1e-8), float(moments.mean)
    assert abs(mean) > 0.1, "the units have moved"
    rescaled = networks.rescale_value_head({"params": {"critic": start_from}}, 0.0, 1.0, mean, std)["params"]["critic"]
    critic = learner.params["params"]["critic"]
    jax.tree.map(
        lambda target, old, new: np.testing.assert_allclose(target, 0.9 * old + 0.1 * new, rtol=1e-4, atol=1e-5),
        learner.target_critic,
        rescaled,
        critic,
    )
    assert np.abs(np.asarray(critic["head"]["kernel"]) - rescaled["head"]["kernel"]).max() > 1e-4
    acting = program.policy(learner).params["params"]
    assert acting["critic"] is learner.target_critic and acting["actor"] is learner.params["params"]["actor"]
    assert with_target_critic(replace(learner, target_critic=None)).params is learner.params
    assert int(metrics["gradient_steps"][0]) == 1 and int(metrics["critic_gradient_steps"][0]) == 8


class Thinking(PointMass):
    """A step takes many operations, whose results a derivative without checkpoints would keep."""

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        moved, terms, terminated = super().advance(worlds, action)
        x = moved["x"]
        for i in range(50):
            x = jnp.sin(x * 1.1 + i)
        return {"x": moved["x"] + 1e-3 * x}, terms, terminated


def temporary_bytes(lowered: jax.stages.Lowered) -> int:
    return int(lowered.compile(QUICKLY).memory_analysis().temp_size_in_bytes)


def test_memory_grows_with_the_horizon_by_the_worlds_alone():
    problems = (Problem(Thinking(), horizon) for horizon in (8, 16))
    short, long = (temporary_bytes(problem.collect.lower(problem.params, problem.state)) for problem in problems)
    # The scan keeps the worlds with the last step's results, some ten numbers; not the 100 of a step, for x and y.
    assert (long - short) / (8 * N * 4) < 20


def test_memory_does_not_grow_with_the_run():
    changes = [{"log": {"every_updates": updates}, "num_devices": 1} for updates in (1, 8)]
    one, eight = (temporary_bytes(start.build(config_of(x), PointMass()).lower()) for x in changes)
    assert eight < 1.02 * one + 8 * 1000, "eight rows of metrics"


@pytest.mark.usefixtures("compiled_quickly")
def test_a_task_is_learned():
    updates = 150
    changes = {"log": {"every_updates": updates}, "total_env_steps": updates * 256, "ppo": {"learning_rate": 1e-2}}
    program = start.build(config_of(changes), PointMass())
    _, metrics = program.train_chunk(program.init(), program.budget(updates * 256))
    reward = np.asarray(metrics["reward_per_step"])
    assert reward[:5].mean() < -0.5 and reward[-10:].mean() > -0.06, (reward[:5], reward[-10:])
    assert (metrics["skipped_gradient_steps"] == 0).all() and (metrics["nonfinite_gradients"] == 0).all()


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(tmp_path):
    settings = merge(SMALL, {"total_env_steps": 9 * 256 + 33, "log": {"every_updates": 2, "tensorboard": False}})
    settings = merge(settings, {"checkpoint": {"every_updates": 4}})
    mjxppo.train_policy(PointMass(), config=settings, run_dir=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(rows: Any) -> None:
        if rows[-1]["update"] >= 6:
            raise Stop

    with pytest.raises(Stop):
        mjxppo.train_policy(PointMass(), config=settings, run_dir=tmp_path / "broken", on_metrics=stop)
    mjxppo.train_policy(PointMass(), run_dir=tmp_path / "broken", resume=True)
    whole, broken = (
        checkpoint.read(checkpoint.newest_whole_step(tmp_path / x / "ckpt"))[0] for x in ("whole", "broken")
    )
    assert whole.keys() == broken.keys() and any("target_critic" in name for name in whole)
    for name, array in whole.items():
        assert array.tobytes() == broken[name].tobytes(), name
    rows = [[row["policy_loss"] for row in read_rows(tmp_path / x)] for x in ("whole", "broken")]
    assert len(rows[0]) == 10 and rows[0] == rows[1]


@pytest.mark.usefixtures("compiled_quickly")
def test_the_discount_of_a_sweep_is_each_members():
    """A discount of 0 leaves the first reward of a piece alone."""
    changes = {"grid": {"ppo.gamma": [0.0, 0.99]}, "ppo": {"num_envs": 16, "block_size": 16}}
    program = start.build(config_of(changes), PointMass())
    _, metrics = program.train_chunk(program.init(), program.budget(MANY))
    losses = np.asarray(metrics["policy_loss"])[:, 0]
    assert 0 < losses[0] * 2 < losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ppo": {"entropy_coef": 0.01}}, "ppo.entropy_coef: must be 0 for shac"),
        ({"ppo": {"advantage_normalization": "batch"}}, "ppo.advantage_normalization: must be none for shac"),
        ({"ppo": {"num_microbatches": 2}}, "ppo.num_microbatches: must be 1 for shac"),
        ({"ppo": {"value_clip_eps": 0.2}}, "ppo.value_clip_eps: must be 0 for shac"),
        ({"ppo": {"num_epochs": 2}}, "ppo.num_epochs: must be 1 for shac"),
        ({"ppo": {"loss": "clip"}}, "ppo.loss: must be policy_gradient for shac"),
        ({"init": {"path": "runs/a", "anchor_coef": 0.1}}, "init.anchor_coef: must be 0 for shac"),
        ({"critic": {"num_minibatches": 3}}, "critic.num_minibatches: 3 does not divide"),
        ({"grid": {"ppo.clip_eps": [0.1, 0.2]}}, "grid: shac does not use ppo.clip_eps"),
        ({"algorithm": "vpg", "shac": {"target_decay": 0.5}}, "shac.target_decay: is of algorithm shac, and this is"),
        ({"distill": {"teacher": "runs/a"}}, "algorithm: must be ppo to distill, not shac"),
    ],
)
def test_settings_that_contradict_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError) as refused:
        resolve("hopper", merge({"algorithm": "shac"}, changes))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


class Looping(PointMass):
    """A step is a loop whose length depends on the action; JAX has no reverse derivative of it."""

    def advance(self, worlds: Any, action: jax.Array) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        shrunk = jax.lax.while_loop(lambda a: jnp.abs(a).max() > 1, lambda a: a / 2, action)
        return super().advance(worlds, shrunk)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Bandit(), "algorithm: shac needs actions that are numbers, and bandit has choices; choose ppo"),
        ("gymnasium:Pendulum-v1", "algorithm: shac differentiates the simulation, and gymnasium:Pendulum-v1 is"),
        ("brax:fast", "algorithm: shac needs derivatives of brax:fast, which is of another library; choose ppo"),
        (Looping(), "algorithm: shac needs derivatives of point_mass, which JAX cannot take (Reverse-mode"),
        pytest.param(
            *("mjx", "physics.backend: must be planar or spatial for shac, and hopper is simulated by mjx"),
            marks=pytest.mark.skipif(compiler_aborts(), reason="mjx is refused before, because XLA would abort"),
        ),
    ],
)
def test_what_has_no_derivatives_is_refused_in_one_line(task, message):
    config = resolve("hopper", {"algorithm": "shac"})
    if task == "mjx":
        config = resolve("hopper", {"algorithm": "shac", "physics": {"backend": "mjx"}})
    elif isinstance(task, str):
        config = resolve(task, {"algorithm": "shac"})
    with pytest.raises(UserError) as refused:
        start.build(config, task if isinstance(task, Task) else None)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
