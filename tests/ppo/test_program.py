"""The device program: one jitted function, exact budgets, the same numbers on any number of devices."""

from __future__ import annotations

import dataclasses
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo.config.schema import Config, LogConfig, PolicyConfig, PpoConfig
from mjxppo.envs import Environment
from mjxppo.ppo import counters
from mjxppo.ppo.placement import Target
from mjxppo.ppo.program import TrainingProgram, env_steps_of
from mjxppo.ppo.unknown import with_nan
from mjxppo.run.arrays import named_arrays

PPO = PpoConfig(num_envs=32, block_size=4, rollout_length=8, num_minibatches=4, num_epochs=2, learning_rate=3e-3)


def build(num_devices=1, every_updates=3, platform="cpu", **options) -> TrainingProgram:
    """A program for ``platform``, on this machine's CPU: what is built for a GPU runs there as well."""
    config = Config(
        env="point_mass",
        num_devices=num_devices,
        policy=PolicyConfig(hidden_sizes=(16, 16)),
        ppo=dataclasses.replace(PPO, **options),
        log=LogConfig(every_updates=every_updates),
    )
    program = TrainingProgram(Environment(PointMass(), platform), config, Target(platform, tuple(jax.devices())))
    program.gradient_kernel = "off"  # test_fused.py has it: interpreted, it takes minutes
    return program


build_once = functools.cache(build)
"""A program holds nothing that training changes, so that tests share it."""


def make(total=10**6, **options) -> tuple[TrainingProgram, counters.Counter]:
    program = build_once(**options)
    return program, program.budget(total)


def primitives(jaxpr) -> set[str]:
    """Names of all primitives in a jaxpr, at any depth."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    names |= primitives(inner)
    return names


def test_one_jaxpr_holds_the_whole_loop_and_never_calls_the_host():
    program, total = make()
    state = program.init()
    jaxpr = jax.make_jaxpr(partial(program.advance, config=program.config.ppo, num_updates=3))(
        state, total_env_steps=total
    ).jaxpr
    outer = [equation.primitive.name for equation in jaxpr.eqns]
    assert outer.count("scan") == 1, "one scan over updates"
    names = primitives(jaxpr)
    assert {"scan", "dot_general", "random_bits" if "random_bits" in names else "threefry2x32"} <= names
    assert not {name for name in names if "callback" in name or "infeed" in name or "outfeed" in name}


@pytest.mark.parametrize("num_devices", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_training_compiles_once_and_moves_nothing_between_log_points(num_devices):
    program, total = make(num_devices=num_devices)
    state = program.init()
    state, _ = program.train_chunk(state, total)
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(event) if "backend_compile" in event else None
    )
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, _ = program.train_chunk(state, total)
    assert not compilations
    jax.jit(lambda x: x * 3 + num_devices)(jnp.ones(7))
    assert compilations, "the listener hears compilations"


def test_the_state_given_is_donated():
    program, total = make()
    state = program.init()
    program.train_chunk(state, total)
    assert state.learner.opt_state[1].mu.is_deleted()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("total", [1, 255, 256, 257, 1000, 3 * 256, 5 * 256 + 33])
def test_the_step_budget_is_exact(total, platform):
    program, budget = make(total=total, platform=platform)
    state = program.init()
    rows = []
    while counters.to_int(state.env_steps) < total:
        state, metrics = program.train_chunk(state, budget)
        metrics = jax.device_get(metrics)
        rows += [{k: v[i] for k, v in metrics.items()} for i in range(int(metrics["ran"].sum()))]
    assert counters.to_int(state.env_steps) == total
    assert [env_steps_of(row) for row in rows] == [*range(256, total, 256), total]
    assert sum(int(row["env_steps_this_update"]) for row in rows) == total
    assert [int(row["update"]) for row in rows] == list(range(1, len(rows) + 1))
    before = named_arrays(state)
    state, metrics = program.train_chunk(state, budget)
    assert not np.asarray(metrics["ran"]).any()
    after = named_arrays(state)
    assert all(np.array_equal(before[name], after[name]) for name in before), "a spent budget changes nothing"


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"max_kl": 1e-4, "num_microbatches": 2, "num_minibatches": 2}, marks=pytest.mark.exhaustive),
    ],
)
def test_a_program_for_a_gpu_trains_as_one_for_a_cpu(options):
    (straight, total), (program, _) = make(platform="gpu", **options), make(**options)
    assert program.env.branches and not straight.env.branches
    assert program.layout.block_by_block and not straight.layout.block_by_block
    expected, got = (one.train_chunk(one.init(), total) for one in (program, straight))
    assert {name: x.shape for name, x in expected[1].items()} == {name: x.shape for name, x in got[1].items()}
    first, second = (named_arrays(state) | metrics for state, metrics in (expected, got))
    for name, x in first.items():
        np.testing.assert_allclose(second[name], x, rtol=2e-3, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"max_kl": 0.01, "kl_stop": "step"}])
def test_a_program_for_a_gpu_leaves_no_branch_to_the_host(options):
    branches = {}
    for platform in ("cpu", "gpu"):
        program, total = make(platform=platform, **options)
        advance = partial(program.advance, config=program.config.ppo, num_updates=3, total_env_steps=total)
        branches[platform] = "cond" in primitives(jax.make_jaxpr(advance)(program.shapes()).jaxpr)
    assert branches == {"cpu": True, "gpu": False}


def test_chunks_of_any_length_give_the_same_bits():
    states = []
    for every_updates, chunks in ((1, 6), (3, 2)):
        program, total = make(every_updates=every_updates)
        state = program.init()
        for _ in range(chunks):
            state, _ = program.train_chunk(state, total)
        states.append(named_arrays(state))
    first, second = states
    assert all(np.array_equal(first[name], second[name]) for name in first)


def rollout_only(num_devices):
    """Trains one update and returns the worlds after it, and the learner."""
    program, total = make(num_devices=num_devices, every_updates=1)
    state, _ = program.train_chunk(program.init(), total)
    return named_arrays(state.env_state), named_arrays(state.learner)


@pytest.mark.parametrize("num_devices", [pytest.param(2, marks=pytest.mark.exhaustive), 8])
def test_rollouts_are_bit_equal_on_any_number_of_devices_and_parameters_equal_to_rounding(num_devices):
    worlds, learner = rollout_only(1)
    other_worlds, other_learner = rollout_only(num_devices)
    for name in worlds:
        np.testing.assert_array_equal(worlds[name], other_worlds[name], err_msg=name)
    for name in learner:
        np.testing.assert_allclose(learner[name], other_learner[name], rtol=2e-3, atol=2e-5, err_msg=name)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    def run(seed):
        program = build()
        program.config = dataclasses.replace(program.config, seed=seed)
        state, _ = program.train_chunk(program.init(), program.budget(10**6))
        return named_arrays(state)

    first, again, other = run(0), run(0), run(1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["env_state/obs"], other["env_state/obs"])


@pytest.mark.parametrize("start", [2**31 - 300, 2**32 - 300])
def test_counting_goes_on_past_32_bits(start):
    program, _ = make()
    total = program.budget(start + 10**6)
    state = program.init().replace(env_steps=counters.make(start))
    state, metrics = program.train_chunk(program.place(state), total)
    assert counters.to_int(state.env_steps) == start + 3 * 256
    assert np.isfinite(np.asarray(metrics["learning_rate"])).all()


def test_a_nonfinite_world_is_reset_and_does_not_spoil_learning():
    program, total = make()
    state = program.init()
    env_state = state.env_state.replace(worlds={"x": state.env_state.worlds["x"].at[5].set(jnp.nan)})
    state, metrics = program.train_chunk(program.place(state.replace(env_state=env_state)), total)
    assert np.asarray(metrics["nonfinite_steps"]).tolist() == [1, 0, 0]
    assert all(np.isfinite(value).all() for name, value in named_arrays(state).items() if value.dtype == np.float32)


def test_a_nonfinite_gradient_skips_that_step_and_is_counted():
    program, total = make(every_updates=1, normalize_returns=False)
    state = program.init()
    head = state.learner.params["params"]["critic"]["head"]
    head["bias"] = head["bias"] + jnp.inf
    before = named_arrays(state.learner.params)
    state, metrics = program.train_chunk(program.place(state), total)
    assert int(metrics["skipped_gradient_steps"][0]) == 4 * 2
    after = named_arrays(state.learner.params)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_learning_rate_falls_linearly_to_zero_at_the_end_of_the_budget():
    program, total = make(total=6 * 256, every_updates=6, learning_rate_schedule="linear")
    _, metrics = program.train_chunk(program.init(), total)
    np.testing.assert_allclose(metrics["learning_rate"], 3e-3 * (1 - np.arange(6) / 6), rtol=1e-5)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "kl_penalty"},
        {"max_kl": 0.02, "advantage_normalization": "minibatch", "learning_rate_schedule": "adaptive_kl"},
        {"advantage_normalization": "none", "normalize_returns": False, "normalize_obs": False, "value_clip_eps": 0.2},
        {"learning_rate_schedule": "adaptive_kl_linear", "stagger_resets": False},
    ],
    ids=lambda options: "-".join(map(str, options)) or "default",
)
def test_every_form_of_ppo_learns(options):
    program, total = make(every_updates=120, total=120 * 256, **options)
    _, metrics = program.train_chunk(program.init(), total)
    returns = with_nan(jax.device_get(metrics))["episode_return"]
    first, last = np.nanmean(returns[:8]), np.nanmean(returns[-8:])
    # Standing still at a random start costs about -13 an episode; moving to the origin about -1.
    assert last > first / 2 and last > first + 1, (first, last)


@pytest.mark.usefixtures("compiled_quickly")
def test_max_kl_stops_an_updates_epochs():
    free, total = make(num_epochs=8, learning_rate=4e-3, every_updates=1)
    bounded, _ = make(num_epochs=8, learning_rate=4e-3, every_updates=1, max_kl=0.003)
    kls, steps_taken = [], []
    for program in (free, bounded):
        state, metrics = program.train_chunk(program.init(), total)
        kls.append(float(metrics["approx_kl"][0]))
        steps_taken.append(int(state.learner.opt_state[1].count))
    assert kls[1] < kls[0]
    assert steps_taken[0] == 8 * 4, "Adam counts the gradient steps"
    assert steps_taken[1] % 4 == 0 and 4 <= steps_taken[1] < 8 * 4, "whole epochs, and fewer"


def test_minibatches_that_the_budget_left_empty_change_neither_parameters_nor_metrics():
    program, budget = make(total=256 + 1, every_updates=2, num_minibatches=8, num_epochs=1)
    state, metrics = program.train_chunk(program.init(), budget)
    whole, last = (jax.tree.map(lambda x, i=i: float(x[i]), metrics) for i in range(2))
    assert last["env_steps_this_update"] == 1
    assert last["std"] == pytest.approx(whole["std"], rel=0.05), "the mean is over the one minibatch with a sample"
    assert np.isfinite([last["entropy"], last["approx_kl"], last["expected_return"]]).all()
    assert int(state.learner.opt_state[1].count) == 8 + 1, "one gradient step for one sample"
