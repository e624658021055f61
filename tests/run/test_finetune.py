"""Fine-tuning: what is carried over, warm-ups, the anchor, and sources that do not fit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from test_train import Crash, final_arrays, logged, working_directory  # noqa: F401
from toy import PointMass

import mjxppo
from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.layers import settings_of_algorithm
from mjxppo.config.values import merge
from mjxppo.errors import UserError
from mjxppo.run import load, start
from mjxppo.run.arrays import named_arrays
from mjxppo.run.metrics import MetricsWriter

pytestmark = pytest.mark.usefixtures("compiled_quickly")

UPDATE = 32 * 8
SMALL = {
    "policy": {"hidden_sizes": [16], "critic_hidden_sizes": [8], "std": "state_independent"},
    "ppo": {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "learning_rate": 3e-3},
    "log": {"every_updates": 2, "tensorboard": False},
    "checkpoint": {"every_updates": 2},
    "num_devices": 2,
}
PARTS = {
    "policy": "learner/params/params/actor",
    "critic": "learner/params/params/critic",
    "normalizer": "learner/obs_moments",
    "optimizer": "learner/opt_state",
}


def run(directory: str, updates: int, **fields):
    """Trains on the point mass, with ``ppo`` on top of the small one's."""
    networks = {} if "init" in fields else {"policy": SMALL["policy"]}
    ppo = SMALL["ppo"] | fields.pop("ppo", {})
    return mjxppo.train_policy(
        PointMass(),
        config={**SMALL, "policy": {}, **networks},
        run_dir=directory,
        total_env_steps=updates * UPDATE,
        ppo=ppo,
        **fields,
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A short run."""
    directory = tmp_path_factory.mktemp("pretrained")
    with contextlib.chdir(directory):
        run("run", 6, ppo={"gamma": 0.9})
    return directory / "run"


@pytest.fixture
def source(pretrained, working_directory):  # noqa: F811
    """Its arrays; it is also reachable as ``pretrained``."""
    Path("pretrained").symlink_to(pretrained)
    return final_arrays(pretrained)


def begun(**fields):
    """What a run holds before its first update that changes anything: the budget allows for one step of one world."""
    from mjxppo.run import finetune

    values = merge({"env": "point_mass", **SMALL, "policy": {}}, fields)
    loaded = finetune.load_source(values)
    values = merge(merge(values, finetune.inherited_fields(loaded)), fields)
    config = make_config(values)
    program = start.build(config, PointMass())
    return named_arrays(finetune.carry_over(program, program.init())), named_arrays(program.init())


@pytest.mark.parametrize(
    "carry",
    [
        [],
        ["normalizer"],
        ["critic", "normalizer"],
        ["policy", "normalizer"],
        ["policy", "critic", "normalizer", "optimizer"],
    ],
)
@pytest.mark.parametrize("num_seeds", [1, 2])
def test_what_is_carried_is_the_sources_to_the_bit_and_the_rest_is_fresh(source, carry, num_seeds):
    state, fresh = begun(init={"path": "pretrained", "carry": carry}, num_seeds=num_seeds)
    assert state.keys() == fresh.keys()
    changed = set()
    for name, array in state.items():
        origin = [part for part, prefix in PARTS.items() if name.startswith(prefix)]
        origin += ["critic"] if name.startswith("learner/return_moments") else []
        expected = fresh[name]
        if set(origin) & set(carry):
            expected = np.broadcast_to(source[name], array.shape)
            changed |= set(origin) if not np.array_equal(expected, fresh[name]) else set()
        assert array.tobytes() == np.ascontiguousarray(expected).tobytes(), name
    assert changed == set(carry), "each part that is carried makes a difference"


@pytest.mark.parametrize("carry", [["policy", "normalizer"], ["critic", "normalizer"]])
def test_a_target_critic_begins_as_the_critic_does(source, carry):
    state, _ = begun(**settings_of_algorithm("shac"), init={"path": "pretrained", "carry": carry})
    targets = {name: array for name, array in state.items() if name.startswith("learner/target_critic/")}
    assert targets
    for name, array in targets.items():
        critic = name.replace("learner/target_critic", PARTS["critic"])
        assert array.tobytes() == state[critic].tobytes()
        if array.any():  # biases are 0
            assert (array.tobytes() == source[critic].tobytes()) == ("critic" in carry)


@pytest.mark.exhaustive
def test_networks_and_discount_are_taken_over_unless_told_otherwise(source):
    tuned = run("tuned", 1, init={"path": "pretrained"}, policy={"min_log_std": -3.0})
    assert tuned.config.policy.hidden_sizes == (16,) and tuned.config.policy.critic_hidden_sizes == (8,)
    assert tuned.config.policy.std == "state_independent" and tuned.config.policy.min_log_std == -3.0
    assert tuned.config.ppo.gamma == 0.9 and tuned.config.ppo.learning_rate == 3e-3
    assert run("other", 1, init={"path": "pretrained"}, ppo={"gamma": 0.95}).config.ppo.gamma == 0.95


def test_the_policy_stays_as_it_is_while_only_the_critic_learns(source):
    run("frozen", 3, init={"path": "pretrained", "critic_warmup": 3})
    frozen = final_arrays("frozen")
    for name in source:
        if name.startswith((PARTS["policy"], PARTS["normalizer"])):
            assert frozen[name].tobytes() == source[name].tobytes(), name
    head = f"{PARTS['critic']}/head/kernel"
    assert not np.array_equal(frozen[head], source[head])
    assert frozen["learner/opt_state/1/mu"].all(), "Adam's moments of the policy are there when it begins to move"
    run("thawed", 4, init={"path": "pretrained", "critic_warmup": 3})
    kernel = f"{PARTS['policy']}/mlp/head/kernel"
    mean = f"{PARTS['normalizer']}/mean"
    assert not np.array_equal(final_arrays("thawed")[kernel], source[kernel])
    assert not np.array_equal(final_arrays("thawed")[mean], source[mean])


@pytest.mark.exhaustive
def test_the_step_size_that_is_logged_warms_up(source):
    init = {"path": "pretrained", "critic_warmup": 1, "step_size_warmup": 4}
    rates = {}
    # A target that is never reached: without warm-ups the step size would grow from the first update on.
    for schedule in ("constant", "adaptive_kl"):
        ppo = {"learning_rate_schedule": schedule, "target_kl": 1e3}
        rates[schedule] = [row["learning_rate"] for row in run(schedule, 7, init=init, ppo=ppo).rows]
    expected = np.array([1, 0.25, 0.5, 0.75, 1, 1, 1]) * 3e-3
    np.testing.assert_allclose(rates["constant"], expected, rtol=1e-6)
    np.testing.assert_allclose(rates["adaptive_kl"], expected * [1, 1, 1, 1, 1, 1, 1.5], rtol=1e-6)


@pytest.mark.exhaustive
def test_a_heavy_anchor_keeps_the_policy_where_it_was(source):
    divergence, distance = {}, {}
    kernel = f"{PARTS['policy']}/mlp/head/kernel"
    for name, weight in (("free", 1e-6), ("held", 1e6)):
        ppo = {"learning_rate_schedule": "constant", "max_grad_norm": 1e6}
        tuned = run(name, 20, init={"path": "pretrained", "anchor_coef": weight}, ppo=ppo)
        divergence[name] = tuned.rows[-1]["reference_kl"]
        distance[name] = np.abs(final_arrays(name)[kernel] - source[kernel]).max()
    assert divergence["held"] < 0.02 * divergence["free"] and distance["held"] < 0.2 * distance["free"]
    for name in ("free", "held"):
        arrays = final_arrays(name)
        for held, kept in (("learner/anchor/params/params/actor", PARTS["policy"]),
                           ("learner/anchor/obs_moments", PARTS["normalizer"])):  # fmt: skip
            names = [one for one in arrays if one.startswith(held)]
            assert names and all(arrays[one].tobytes() == source[one.replace(held, kept)].tobytes() for one in names)


def test_at_the_beginning_the_anchor_is_where_the_policy_is(source):
    rows = run("tuned", 1, init={"path": "pretrained", "anchor_coef": 1.0, "critic_warmup": 1}).rows
    assert abs(rows[0]["reference_kl"]) < 1e-6


@pytest.mark.exhaustive
def test_an_anchored_run_resumes_to_the_bit_without_its_source(source, monkeypatch):
    init = {"path": "pretrained", "anchor_coef": 0.5, "anchor_half_life": 3.0, "critic_warmup": 2}
    run("whole", 9, init=init)
    write, calls = MetricsWriter.write, []

    def crash(self, rows):
        write(self, rows)
        calls.append(1)
        if len(calls) == 3:
            raise Crash

    monkeypatch.setattr(MetricsWriter, "write", crash)
    with pytest.raises(Crash):
        run("broken", 9, init=init)
    monkeypatch.setattr(MetricsWriter, "write", write)
    Path("pretrained").rename("gone")
    mjxppo.train_policy(PointMass(), run_dir="broken", resume=True)
    whole, resumed = final_arrays("whole"), final_arrays("broken")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert whole[name].tobytes() == resumed[name].tobytes(), name
    assert logged("whole") == logged("broken")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": {"path": "nowhere"}}, "init.path: nowhere: there is no such directory"),
        ({"policy": {"hidden_sizes": [32]}}, r"policy.hidden_sizes: must be \[16\], as in "),
        ({"policy": {"critic_hidden_sizes": [16]}}, r"policy.critic_hidden_sizes: must be \[8\]"),
        ({"policy": {"std": "state_dependent"}}, "policy.std: must be state_independent"),
        ({"policy": {"activation": "elu"}}, "policy.activation: must be tanh"),
        ({"ppo": {"normalize_obs": False}}, "ppo.normalize_obs: must be True"),
        ({"init": {"carry": ["policy", "optimizer"]}}, "init.carry: optimizer goes with policy and critic"),
        ({"init": {"carry": ["actor"]}}, r"init.carry.0: input should be 'policy'"),
        ({"init": {"carry": ["policy"]}}, "init.carry: policy goes with normalizer, .* add normalizer"),
        ({"init": {"carry": ["critic"]}}, "init.carry: critic goes with normalizer"),
        ({"init": {"path": None, "anchor_coef": 1.0}}, "init.anchor_coef: needs a policy to hold on to"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_in_one_line_before_anything_is_written(source, fields, message):
    fields = merge({"init": {"path": "pretrained"}}, fields)
    with pytest.raises(UserError, match=message) as error:
        run("tuned", 1, **fields)
    assert "\n" not in str(error.value) and not Path("tuned").exists()


@pytest.mark.exhaustive
def test_an_optimizer_of_other_steps_is_refused(source):
    every = ["policy", "critic", "normalizer", "optimizer"]
    ppo = {"num_minibatches": 1, "learning_rate_schedule": "constant"}
    with pytest.raises(
        UserError,
        match=r"init.carry: the optimizer of .* is that of other steps \(algorithm ppo, .* leave optimizer out",
    ):
        run("tuned", 1, algorithm="trpo", ppo=ppo, init={"path": "pretrained", "carry": every})
    run("trpo", 1, algorithm="trpo", ppo=ppo, init={"path": "pretrained"})
    run("again", 2, algorithm="trpo", ppo=ppo, init={"path": "trpo", "carry": every})
    counts = [final_arrays(name)["learner/critic_opt_state/1/count"] for name in ("trpo", "again")]
    assert counts[0] == 160 and counts[1] == 480, "Adam's moments of the critic go on as well"


@pytest.mark.exhaustive
@pytest.mark.parametrize("field", ["init_log_std", "min_log_std"])
def test_what_the_parameters_of_a_state_dependent_std_stand_for_must_stay(working_directory, field):  # noqa: F811
    policy = {"hidden_sizes": [16], "std": "state_dependent", "init_log_std": -0.5, "min_log_std": -2.5}
    run("pretrained", 1, policy=policy)
    tuned = run("tuned", 1, init={"path": "pretrained"})
    assert (tuned.config.policy.init_log_std, tuned.config.policy.min_log_std) == (-0.5, -2.5)
    with pytest.raises(UserError, match=f"policy.{field}: must be {policy[field]}, as in "):
        run("other", 1, init={"path": "pretrained"}, policy={field: -1.0})
    init = {"path": "pretrained", "carry": ["critic", "normalizer"]}
    assert run("critic", 1, init=init, policy={field: -1.0}).env, "a new actor may be another"


@pytest.mark.exhaustive
def test_networks_that_are_not_carried_may_differ(source):
    fields = {"init": {"path": "pretrained", "carry": ["policy", "normalizer"]}, "policy": {"critic_hidden_sizes": [4]}}
    assert run("tuned", 1, **fields).config.policy.critic_hidden_sizes == (4,)


FAST = ["--env", "brax:fast", "--ppo.num-envs", "16", "--ppo.block-size", "8", "--ppo.rollout-length", "8"]
FAST += ["--ppo.num-minibatches", "4", "--eval.episodes", "0", "--eval.no-video", "--num-devices", "2"]


def test_from_the_command_line(capsys):
    assert (
        cli.main(["train", *FAST, "--run-dir", "runs/pre", "--policy.hidden-sizes", "24", "--total-env-steps", "256"])
        == 0
    )
    Path("tune.yaml").write_text("init: {carry: [policy, normalizer], anchor_coef: 0.1, critic_warmup: 1}\n")
    tune = ["train", *FAST, "--init.path", "ckpt", "--config", "tune.yaml", "--total-env-steps", "256"]
    capsys.readouterr()
    assert cli.main([*tune, "--run-dir", "runs/tuned"]) == 0
    printed = capsys.readouterr()
    step = Path("runs/pre/ckpt/2").resolve()
    assert f"starting from {step}: policy, normalizer, anchor" in printed.err
    assert json.loads(printed.out)["env_steps"] == 256
    config = load.load(Path("runs/tuned")).config
    assert config.policy.hidden_sizes == (24,) and config.init.path == str(step), "ckpt is now another run's"
    assert cli.main([*tune, "--env", "half_cheetah", "--run-dir", "no"]) == 2
    assert "observations, and half_cheetah has 17" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--run-dir", "runs/tuned", "--init.carry", "normalizer"]) == 2
    assert "init.carry: cannot change when a run is resumed" in capsys.readouterr().err
