"""Policies with choices: the same actions in every format, masks, histories, and damaged files in one line."""

from __future__ import annotations

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Bandit

import mjxppo
from mjxppo.config.schema import Config, PolicyConfig, PpoConfig
from mjxppo.envs import Environment
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.build import environment
from mjxppo.errors import UserError
from mjxppo.policy.export import export
from mjxppo.policy.policy import Policy, from_checkpoint
from mjxppo.ppo import networks, normalize
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run.arrays import named_arrays

OBS = 5
SPECS = {
    "one": ActionSpec(0, (4,)),
    "several": ActionSpec(0, (2, 3, 4)),
    "both": ActionSpec(2, (3, 2)),
    "tree": ActionSpec(
        2,
        (3,),
        (
            "dict",
            (("gear", ("discrete", 3, -1, "int64")), ("wheel", ("box", (2,), (0.0, -2.0), (4.0, 2.0), "float32"))),
        ),
    ),
    "shaped": ActionSpec(2, (), ("box", (1, 2), (0.0, 0.0), (1.0, 2.0), "float64")),
}


def make_policy(name: str, history: int = 1) -> Policy:
    spec, rng = SPECS[name], np.random.default_rng(0)
    sizes = (history * OBS + (history - 1) * spec.size, 16, spec.continuous + spec.logits)
    layers = tuple(
        (rng.normal(size=(m, n)).astype(np.float32), rng.normal(size=n).astype(np.float32))
        for m, n in itertools.pairwise(sizes)
    )
    mean, scale = rng.normal(size=sizes[0]).astype(np.float32), np.ones(sizes[0], np.float32)
    return Policy(mean, scale, 10.0, layers, "tanh", history, spec=spec)


def outputs_of(policy: Policy, seen: np.ndarray) -> np.ndarray:
    (weight, bias), (head, head_bias) = policy.layers
    return np.tanh((seen - policy.obs_mean) @ weight + bias) @ head + head_bias


def test_choices_are_those_with_the_largest_logits():
    policy, obs = make_policy("both"), np.random.default_rng(1).normal(size=(200, OBS))
    outputs = outputs_of(policy, obs)
    action = policy(obs)
    assert action.shape == (200, 4) and action.dtype == np.float32
    np.testing.assert_allclose(action[:, :2], np.tanh(outputs[:, :2]), atol=1e-5)
    np.testing.assert_array_equal(action[:, 2], outputs[:, 2:5].argmax(-1))
    np.testing.assert_array_equal(action[:, 3], outputs[:, 5:].argmax(-1))
    mask = np.random.default_rng(2).random((200, 5)) < 0.5
    masked = policy(obs, mask=mask)
    free = mask[:, :3] | ~mask[:, :3].any(-1, keepdims=True)
    np.testing.assert_array_equal(masked[:, 2], np.where(free, outputs[:, 2:5], -np.inf).argmax(-1))
    with pytest.raises(ValueError, match="the action_mask has 3 entries, and the actions 5 categories"):
        policy(obs, mask=np.ones((200, 3), bool))


def test_actions_have_the_form_that_the_environment_takes():
    obs = np.zeros((7, OBS))
    assert make_policy("one")(obs).shape == (7,) and make_policy("one")(obs[0]).dtype == np.int64
    assert make_policy("several")(obs).shape == (7, 3) and make_policy("several")(obs).dtype == np.int64
    tree = make_policy("tree")(obs)
    assert tree["gear"].shape == (7,) and tree["wheel"].shape == (7, 2) and set(tree["gear"]) <= {-1, 0, 1}
    assert make_policy("shaped")(obs).shape == (7, 1, 2)
    assert make_policy("tree").begin(vectors=True)(obs).shape == (7, 3)


def run_npz(path, obs):
    return mjxppo.load_policy(path).begin(vectors=True)(obs), None


def run_onnx(path, obs):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["action", "logits"], {"obs": obs})


def run_stablehlo(path, obs):
    from jax import export as jax_export

    return jax_export.deserialize(bytearray(path.read_bytes())).call(obs)


RUN = {"npz": run_npz, "onnx": run_onnx, "stablehlo": run_stablehlo}


@pytest.mark.parametrize("name", ["one", "several", "both", "tree"])
@pytest.mark.parametrize("suffix", RUN)
def test_every_format_acts_as_the_policy(name, suffix, tmp_path):
    if suffix == "onnx":
        pytest.importorskip("onnx")
    policy, obs = make_policy(name), np.random.default_rng(1).normal(size=(500, OBS)).astype(np.float32)
    path = tmp_path / f"policy.{suffix}"
    described = export(policy, "bandit", path)
    assert described["action_size"] == policy.actions.size and described["obs_size"] == OBS
    action, logits = RUN[suffix](path, obs)
    np.testing.assert_allclose(action, policy.of_inputs(obs), atol=1e-5)
    if logits is not None:
        np.testing.assert_allclose(logits, outputs_of(policy, obs)[:, policy.actions.continuous :], atol=1e-4)
    if suffix == "npz":
        assert mjxppo.load_policy(path).actions == policy.actions


def remembering(call):
    """A function of observations from one of (observation, past) to (action, past, ...)."""
    past = None

    def act(obs):
        nonlocal past
        past = np.concatenate([np.zeros((len(obs), 4), np.float32), obs] * 2, axis=1) if past is None else past
        action, past, *_ = (np.asarray(x) for x in call(obs, past))
        return action

    return act


@pytest.mark.parametrize("suffix", RUN)
def test_a_policy_with_a_past_remembers_its_choices(suffix, tmp_path):
    if suffix == "onnx":
        pytest.importorskip("onnx")
    policy, path = make_policy("both", history=3), tmp_path / f"policy.{suffix}"
    assert policy.obs_size == OBS
    export(policy, "bandit", path)
    if suffix == "npz":
        act = mjxppo.load_policy(path).begin(vectors=True)
    elif suffix == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        act = remembering(lambda obs, past: session.run(["action", "next_past"], {"obs": obs, "past": past}))
    else:
        from jax import export as jax_export

        act = remembering(jax_export.deserialize(bytearray(path.read_bytes())).call)
    ours, seen = policy.begin(vectors=True), set()
    for obs in np.random.default_rng(1).normal(size=(6, 3, OBS)).astype(np.float32):
        np.testing.assert_allclose(act(obs), expected := ours(obs), atol=1e-5)
        seen |= set(expected[:, 2])
    assert len(seen) > 1


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("std", ["state_dependent", "state_independent"])
def test_the_policy_of_a_checkpoint_is_the_networks(std, history):
    config = Config(
        env="bandit",
        policy=PolicyConfig(hidden_sizes=(8,), std=std, history=history),
        ppo=PpoConfig(num_envs=8, block_size=8, rollout_length=4, num_minibatches=1),
    )
    env = environment(config, Environment(Bandit()))
    program = TrainingProgram(env, config)
    state = program.init()
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), state.learner.params)
    learner = state.learner.replace(params=params)
    policy = from_checkpoint(named_arrays(state.replace(learner=learner)), config)
    assert policy.actions.parts == (1, (4,)) and policy.history == history and policy.obs_size == 2
    obs = rng.normal(size=(100, env.obs_size)).astype(np.float32)
    mask = rng.random((100, 4)) < 0.5
    seen = normalize.normalize_obs(state.learner.obs_moments, jnp.asarray(obs))
    mean, _, logits = networks.apply_policy(program.network, params, seen, jnp.asarray(mask))
    action = policy.of_inputs(obs, mask)
    np.testing.assert_allclose(action[:, 0], np.tanh(mean[:, 0]), atol=1e-5)
    np.testing.assert_array_equal(action[:, 1], np.asarray(logits).argmax(-1))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("", "is damaged: actions is ''"),
        ("nonsense", "is damaged: actions is 'nonsense'"),
        ('[0, [4], ["dict"]]', "is damaged: actions is"),
        ('[0, [4], ["call", 1]]', "is damaged: actions is"),
        ("[0, [1, 3], null]", "is damaged: actions is"),
        ("[-1, [5], null]", "is damaged: actions is"),
        ("[0, [3], null]", "is damaged: actions are a choice among 3, and the network has 4 outputs"),
        ("[[0], 4, null]", "is damaged: actions is"),
        ("[" * 100_000, "is damaged: actions is"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(actions, message, tmp_path):
    export(make_policy("one"), "cartpole", tmp_path / "policy.npz")
    with np.load(tmp_path / "policy.npz") as file:
        arrays = dict(file)
    assert int(arrays["format"]) == 3 and json.loads(str(arrays["actions"]))[1] == [4]
    np.savez(tmp_path / "other.npz", **arrays | {"actions": np.str_(actions)})
    with pytest.raises(UserError, match=message.replace("[", r"\[")) as refused:
        mjxppo.load_policy(tmp_path / "other.npz")
    assert "\n" not in str(refused.value)
