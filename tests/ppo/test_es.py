"""Evolution strategies: an update against NumPy in float64, whole episodes, resuming, and that it learns."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from toy import Bandit, PointMass

import mjxppo
from mjxppo import cli
from mjxppo.config.layers import resolve
from mjxppo.config.schema import Config
from mjxppo.config.values import merge
from mjxppo.envs import Environment
from mjxppo.ppo import networks, normalize
from mjxppo.ppo.es.episodes import begin
from mjxppo.ppo.es.perturbation import LowRankNoise, acting_layers, draw_noise, with_acting_layers
from mjxppo.ppo.es.program import EsProgram
from mjxppo.ppo.placement import Target
from mjxppo.ppo.program import update_keys
from mjxppo.ppo.state import TrainState
from mjxppo.ppo.unknown import with_nan
from mjxppo.run import failure, finetune, start
from mjxppo.run.arrays import named_arrays
from mjxppo.run.load import load
from mjxppo.run.metrics import read_rows

T = 20
SMALL = {
    "algorithm": "es",
    "policy": {"hidden_sizes": [16, 16]},
    "ppo": {"num_envs": 64, "block_size": 8, "rollout_length": T},
    "es": {"sigma": 0.1},
}


def config_of(changes: dict[str, Any], every_updates: int = 1) -> Config:
    return resolve("point_mass", merge(SMALL | {"log": {"every_updates": every_updates}}, changes))


@functools.cache
def program_of(**changes: Any) -> EsProgram:
    """A program of single updates, which tests share; values are of the section ``es``, ``devices`` aside."""
    own = {"num_devices": changes.pop("devices", 1), "es": changes}
    program = start.build(config_of(own), Edge())
    assert isinstance(program, EsProgram)
    return program


class Edge(PointMass):
    """Some worlds begin near the border, where an episode soon ends."""

    name = "edge"

    def initial(self, keys: jax.Array) -> Any:
        return {"x": jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-2.95, maxval=2.95))(keys)}


def trained(program: EsProgram, updates: int, total: int = 10**6) -> tuple[TrainState, list[dict[str, np.ndarray]]]:
    """The state after some updates, and the metrics of each."""
    state, budget, rows = program.init(), program.budget(total), []
    for _ in range(updates):
        state, metrics = program.train_chunk(state, budget)
        rows.append({name: x[0] for name, x in with_nan(jax.device_get(metrics)).items()})
    return state, rows


def episodes_in_numpy(program: EsProgram, state: TrainState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each world's return, each step's observations [steps taken, 3], and the noise of each pair [pairs, P].

    The noise is the program's; all else is written out, world by world.
    """
    learner, es, config = state.learner, program.config.es, program.config.ppo
    layers = acting_layers(program.network, learner.params)
    pairs = config.num_envs // (2 * es.worlds_per_candidate)
    noise = draw_noise(layers, es.rank, update_keys(state)[0], jnp.arange(pairs))
    moved = []
    for own in noise:
        low = isinstance(own, LowRankNoise)
        kernel = np.einsum("pik,pok->pio", own.left, own.right) / np.sqrt(es.rank) if low else own.kernel
        moved.append((np.float64(kernel), np.float64(own.bias)))
    mean, var = np.float64(learner.obs_moments.mean), np.float64(learner.obs_moments.var)
    starts, returns, seen = np.float64(state.env_state.worlds["x"]), [], []
    for world, x in enumerate(starts):
        candidate = world // es.worlds_per_candidate
        sign, total = 1 - 2 * (candidate % 2), 0.0
        for _ in range(T):
            obs = np.array([*x, 100 * x[0] + 50])
            seen.append(obs)
            h = np.clip((obs - mean) / np.sqrt(var + 1e-8), -10, 10)
            for layer, (kernel, bias) in zip(layers, moved, strict=True):
                weight = np.float64(layer.kernel) + sign * es.sigma * kernel[candidate // 2]
                h = h @ weight + np.float64(layer.bias) + sign * es.sigma * bias[candidate // 2]
                h = np.tanh(h)  # the last one squashes the action
            x = x + 0.3 * h
            total -= x @ x
            if np.abs(x).max() > 3:
                break
        returns.append(total)
    flat = np.concatenate([part.reshape(pairs, -1) for layer in moved for part in layer], axis=1)
    return np.array(returns), np.array(seen), flat


@pytest.mark.parametrize(
    "es", [{}, {"rank": 1, "worlds_per_candidate": 2, "shaping": "none", "weight_decay": 0.5}], ids=["full", "rank-1"]
)
def test_an_update_is_numpys_in_float64(es):
    program = program_of(**es)
    before, _ = trained(program, 2)
    returns, seen, noise = episodes_in_numpy(program, before)
    own, config = program.config.es, program.config.ppo
    learner, flatten = before.learner, lambda tree: np.float64(ravel_pytree(tree)[0])
    theta, adam = flatten(learner.params), learner.opt_state[1]
    mu, nu, count = flatten(adam.mu), flatten(adam.nu), int(adam.count) + 1
    after, metrics = program.train_chunk(jax.tree.map(jnp.copy, before), program.budget(10**6))

    fitness = returns.reshape(-1, own.worlds_per_candidate).mean(1)
    value = fitness.argsort().argsort() / (fitness.size - 1) if own.shaping == "centered_ranks" else fitness
    ascent = ((value[::2] - value[1::2]) @ noise) / (2 * own.sigma * len(noise))
    acting = acting_layers(program.network, learner.params)
    unravel = ravel_pytree(acting)[1]
    zeros = jax.tree.map(jnp.zeros_like, learner.params)
    in_place = lambda layers: flatten(with_acting_layers(program.network, zeros, layers))  # noqa: E731
    gradient = -in_place(unravel(jnp.float32(ascent)))
    mu = config.adam_b1 * mu + (1 - config.adam_b1) * gradient
    nu = config.adam_b2 * nu + (1 - config.adam_b2) * gradient**2
    direction = (mu / (1 - config.adam_b1**count)) / (np.sqrt(nu / (1 - config.adam_b2**count)) + config.adam_eps)
    step = -config.learning_rate * (direction + own.weight_decay * in_place(acting))
    np.testing.assert_allclose(flatten(after.learner.params) - theta, step, rtol=2e-3, atol=1e-5)
    assert np.abs(step).max() > 1e-3

    got = {name: float(x[0]) for name, x in metrics.items()}
    assert got["env_steps_this_update"] == len(seen) < 64 * T, "some episodes end early, and worlds wait"
    assert got["episodes"] == 64 and got["episode_return"] == pytest.approx(returns.mean(), rel=1e-4)
    assert got["expected_return"] == got["episode_return"]
    assert got["episode_return_std"] == pytest.approx(returns.std(), rel=1e-4)
    assert got["best_candidate"] == pytest.approx(fitness.max(), rel=1e-4)
    assert got["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-3)
    old = learner.obs_moments
    expected = normalize.merge_moments(old, *(jnp.float32(x) for x in (seen.mean(0), seen.var(0), len(seen))))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3), after.learner.obs_moments, expected)
    critic = (tree.learner.params["params"]["critic"] for tree in (before, after))
    jax.tree.map(np.testing.assert_array_equal, *critic)


@pytest.mark.usefixtures("compiled_quickly")
def test_worlds_of_a_pair_begin_alike_in_every_update():
    program = program_of(worlds_per_candidate=2)
    state = program.init()
    for _ in range(3):
        pairs = np.asarray(state.env_state.worlds["x"]).reshape(-1, 2, 2, 2)
        np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
        assert len(np.unique(pairs[:, 0, :, 0])) == 32, "the starts of a candidate's worlds differ, and those of pairs"
        state, _ = program.train_chunk(state, program.budget(10**6))


@pytest.mark.usefixtures("compiled_quickly")
def test_the_step_budget_is_exact_and_an_update_that_it_cuts_teaches_nothing():
    program = program_of()
    learned, rows = trained(program, 1)
    first = int(rows[0]["env_steps_this_update"])
    state, cut = trained(program, 6, total=first + 200)
    steps = [int(row["env_steps_this_update"]) for row in cut]
    assert steps[0] == first and sum(steps) == first + 200
    assert [int(row["gradient_steps"]) for row in cut] == [1, 0, 0, 0, 0, 0] and not cut[-1]["ran"]
    assert cut[1]["dropped_candidates"] == 64 and np.isnan([cut[1]["grad_norm"], cut[1]["expected_return"]]).all()
    jax.tree.map(np.testing.assert_array_equal, state.learner.params, learned.learner.params)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_shorter_horizon_begins_a_new_episode_in_every_update():
    program = start.build(config_of({"ppo": {"rollout_length": 5}}), PointMass())
    state, rows = trained(program, 3)
    np.testing.assert_array_equal(state.env_state.episode_length, 5)
    assert rows[2]["env_steps_this_update"] == 64 * 5 and rows[2]["gradient_steps"] == 1
    assert rows[2]["episodes"] == 0 and np.isnan(rows[2]["episode_return"])
    # Later steps are taken to be like the last that were seen; there the point is still on its way.
    assert rows[2]["expected_return"] < 5 * rows[2]["reward_per_step"] < 0


def test_only_episodes_that_were_cut_begin_another_one():
    env = Environment(PointMass())
    fresh = env.reset(jax.random.split(jax.random.key(0), 3))
    state = fresh
    for _ in range(2):
        state = env.step(state, jnp.ones((3, 2)))
    # The first world is under way, the second has just ended, the third has not begun.
    state = replace(
        state,
        truncated=jnp.array([False, True, False]),
        episode_length=jnp.array([2, 20, 0]),
    )
    begun = begin(env, state)
    moved = (np.asarray(begun.worlds["x"]) != np.asarray(state.worlds["x"])).any(1)
    assert moved.tolist() == [True, False, False]
    assert begun.truncated.tolist() == [True, True, False] and begun.clock_offset.tolist() == [1, 0, 0]
    assert np.abs(np.asarray(begun.obs[0, :2])).max() <= 1
    again = env.step(begun, jnp.zeros((3, 2)))
    assert again.episode_length.tolist() == [1, 1, 1] and again.clock_offset.tolist() == [0, 0, 0]


class Fragile(PointMass):
    """Breaks where x becomes greater than 1.2."""

    def advance(self, worlds: Any, action: jax.Array) -> Any:
        moved, terms, terminated = super().advance(worlds, action)
        return {"x": jnp.where(moved["x"][:, :1] > 1.2, jnp.nan, moved["x"])}, terms, terminated


@pytest.mark.usefixtures("compiled_quickly")
def test_pairs_with_a_world_that_breaks_are_left_out_and_the_step_is_found_again():
    program = start.build(config_of({"num_devices": 2}), Fragile())
    budget, state = program.budget(10**6), program.init()
    found = None
    for _ in range(20):
        arrays = {name: np.array(x) for name, x in named_arrays(state).items()}
        state, metrics = program.train_chunk(state, budget)
        broken, dropped = int(metrics["nonfinite_steps"][0]), int(metrics["dropped_candidates"][0])
        assert dropped % 2 == 0 and broken <= dropped <= 2 * broken
        if 0 < dropped < 64:
            found = arrays
            assert int(metrics["gradient_steps"][0]) == 1 and np.isfinite(metrics["best_candidate"]).all()
    assert found is not None
    report, worlds = failure.find_failure(program, found)
    assert report["nonfinite_steps"] > 0 and worlds is not None
    assert 0 <= report["step"] < T and worlds.world.tolist() == report["worlds"][:16]
    stepped = program.env.step(worlds.state, worlds.action)
    assert np.asarray(stepped.nonfinite).all(), "the state and the candidate's action are those that fail"


@pytest.mark.exhaustive
def test_episodes_are_bit_equal_on_any_number_of_devices_and_parameters_equal_to_rounding():
    one, eight = (trained(program_of(devices=count), 1)[0] for count in (1, 8))
    jax.tree.map(np.testing.assert_array_equal, *(named_arrays(state.env_state) for state in (one, eight)))
    theirs = named_arrays(eight.learner)
    for name, x in named_arrays(one.learner).items():
        np.testing.assert_allclose(theirs[name], x, rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.exhaustive
def test_the_program_for_a_gpu_computes_the_same_without_a_branch():
    config = config_of({"num_devices": 1})
    programs = [
        start.build(config, Environment(Edge(), platform), Target(platform, tuple(jax.devices())))
        for platform in ("cpu", "gpu")
    ]
    branches = []
    for program in programs:
        advance = functools.partial(
            program.advance, config=config.ppo, num_updates=1, total_env_steps=program.budget(10**6)
        )
        branches.append("cond[" in str(jax.make_jaxpr(advance)(program.shapes())))
    assert branches == [True, False]
    (expected, _), (got, _) = (trained(program, 2) for program in programs)
    theirs = named_arrays(got)
    for name, x in named_arrays(expected).items():
        np.testing.assert_allclose(theirs[name], x, rtol=2e-3, atol=2e-3, err_msg=name)


@pytest.mark.usefixtures("compiled_quickly")
def test_two_seeds_are_the_same_as_each_alone():
    several = start.build(config_of({"num_seeds": 2, "num_devices": 2}), Edge())
    state, _ = several.train_chunk(several.init(), several.budget(10**6))
    for i in range(2):
        alone = start.build(config_of({"seed": i, "num_devices": 2}), Edge())
        own, _ = trained(alone, 1)
        jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), state.learner.params, own.learner.params)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_it_learns(rank):
    program = start.build(config_of({"es": {"rank": rank}}, every_updates=100), PointMass())
    _, metrics = program.train_chunk(program.init(), program.budget(10**6))
    returns = with_nan(jax.device_get(metrics))["episode_return"]
    # At the origin nothing is lost; standing still costs 13.
    assert returns[:3].mean() < -8 and returns[-5:].mean() > -2, returns


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_it_learns_choices_and_numbers_through_a_mask():
    changes = {"ppo": {"rollout_length": 1}, "policy": {"hidden_sizes": [8]}}
    program = start.build(config_of(changes, every_updates=300), Bandit())
    state, _ = program.train_chunk(program.init(), program.budget(10**6))
    whole, broken = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    obs = normalize.normalize_obs(state.learner.obs_moments, jnp.stack([whole, broken]))
    mask = jnp.array([[True, True, True, True], [True, False, True, True]])
    outputs = networks.apply_policy(program.network, state.learner.params, obs, mask)
    number, arm = program.network.head.action(program.network.head.mode(outputs)).T
    assert arm.tolist() == [1, 2], "the best arm, and the next where that is forbidden"
    np.testing.assert_allclose(number, 0.5, atol=0.15)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_is_resumed_to_the_bit_and_exports_what_it_has_learned(tmp_path, monkeypatch, capsys):
    settings = merge(SMALL, {"log": {"every_updates": 2, "tensorboard": False}, "checkpoint": {"every_updates": 4}})
    settings |= {"total_env_steps": 9000, "num_devices": 2}
    run = mjxppo.train_policy(Edge(), config=settings, run_dir=tmp_path / "whole", evaluate=False)

    class Stop(Exception):
        pass

    def stop(rows: list[Any]) -> None:
        if rows[-1]["update"] >= 6:
            raise Stop

    with pytest.raises(Stop):
        mjxppo.train_policy(Edge(), config=settings, run_dir=tmp_path / "broken", on_metrics=stop)
    mjxppo.train_policy(Edge(), run_dir=tmp_path / "broken", resume=True, evaluate=False)
    whole, broken = (load(tmp_path / name).arrays for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    for name, x in whole.items():
        np.testing.assert_array_equal(broken[name], x, err_msg=name)
    rows = read_rows(tmp_path / "whole")
    assert rows[-1]["env_steps"] == 9000 and len(rows) > 6
    assert [row["expected_return"] for row in read_rows(tmp_path / "broken")] == [
        row["expected_return"] for row in rows
    ]

    out = tmp_path / "policy.npz"
    assert cli.main(["export", str(tmp_path / "whole"), "--out", str(out)]) == 0
    json.loads(capsys.readouterr().out)
    program = start.build(run.config, Edge())
    learner = program.shapes().learner
    actor = {
        name.removeprefix("learner/params/params/actor/mlp/"): x
        for name, x in whole.items()
        if name.startswith("learner/params/params/actor/mlp/")
    }
    mlp = {
        name: {part: actor[f"{name}/{part}"] for part in ("kernel", "bias")}
        for name in ("hidden_0", "hidden_1", "head")
    }
    params = {"params": learner.params["params"] | {"actor": {"mlp": mlp}}}
    moments = normalize.RunningMoments(*(whole[f"learner/obs_moments/{part}"] for part in ("mean", "var", "count")))
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 1, 100]
    outputs = networks.apply_policy(program.network, params, normalize.normalize_obs(moments, jnp.float32(obs)))
    expected = np.tanh(outputs[0])
    for policy in (run.policy, mjxppo.load_policy(out)):
        np.testing.assert_allclose(policy(obs), expected, atol=1e-5)


def test_ppo_that_goes_on_from_it_has_the_discount_of_its_task(monkeypatch):
    class Source:
        config = resolve("hopper", {"algorithm": "es", "policy": {"hidden_sizes": [8]}})

    assert finetune.inherited_fields(Source) == {
        "policy": finetune.to_dict(Source.config)["policy"],
        "ppo": {"normalize_obs": True},
    }
    Source.config = resolve("hopper", {})
    assert finetune.inherited_fields(Source)["ppo"] == {"gamma": 0.995, "normalize_obs": True}
