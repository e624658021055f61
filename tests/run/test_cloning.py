"""Behaviour cloning: recording, learning by likelihood, DAgger, what goes on from it, and bad input."""

from __future__ import annotations

import json
import pickle

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo import cli, envs
from mjxppo.config.cloning import CloningConfig
from mjxppo.config.schema import Config, PolicyConfig, PpoConfig
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.registry import register
from mjxppo.errors import UserError
from mjxppo.policy import demonstrations, minari
from mjxppo.policy.demonstrations import Demonstrations
from mjxppo.policy.record import record
from mjxppo.ppo import cloning, networks
from mjxppo.run import load
from mjxppo.run.cloning import clone

SMALL = {
    "policy": {"hidden_sizes": [16]},
    "ppo": {"num_envs": 16, "block_size": 8, "rollout_length": 8, "num_minibatches": 4},
    "eval": {"episodes": 8, "video": False},
    "log": {"tensorboard": False},
    "num_devices": 2,
}
"""A run that compiles soon."""


def towards_the_origin(obs, step):
    """The best action: the move of at most 0.3 that ends nearest to the origin."""
    return np.clip(-obs[:2] / 0.3, -1, 1)


@pytest.fixture(autouse=True)
def in_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register("point", PointMass)


@pytest.fixture(scope="module")
def recorded():
    """16 episodes of the best controller, and their returns."""
    return record(towards_the_origin, Config(env="point_mass"), 16, 0, env=envs.make(PointMass()))


def test_recorded_steps_are_those_of_the_controller(recorded):
    data, returns = recorded
    assert data.num_episodes == 16 and len(data.obs) == 16 * 20 and data.actions.parts == (2, ())
    np.testing.assert_allclose(data.action, np.clip(-data.obs[:, :2] / 0.3, -1, 1), atol=1e-5)
    # Each episode is that of its own world: the point has moved as the action says.
    moved = data.obs[1:, :2] - data.obs[:-1, :2] - 0.3 * data.action[:-1]
    assert np.abs(moved[~data.start[1:]]).max() < 1e-5
    assert returns.min() > -5


def test_a_file_gives_back_what_was_written(recorded, tmp_path):
    data, _ = recorded
    demonstrations.write(tmp_path / "data.npz", data)
    again = demonstrations.read(tmp_path / "data.npz")
    for name in ("obs", "action", "start"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))
    assert again.env == data.env and again.actions == data.actions


def test_arrays_by_hand_are_scaled_and_cut_into_episodes(tmp_path):
    obs, ends = np.zeros((4, 2)), np.array([False, True, False, False])
    arrays = {"obs": obs, "action": np.array([[-2.0, 1], [0, 0], [2, 2], [1, 1]]), "terminated": ends}
    arrays |= {"truncated": ~ends & False, "action_low": [-2.0], "action_high": [2.0], "categories": [3]}
    np.savez(tmp_path / "data.npz", **arrays)
    data = demonstrations.read(tmp_path / "data.npz")
    assert data.actions == ActionSpec(1, (3,)) and data.start.tolist() == [True, False, True, False]
    assert data.action.tolist() == [[-1, 1], [0, 0], [1, 2], [0.5, 1]]
    assert data.first(1).action.tolist() == [[-1, 1], [0, 0]]


def test_the_loss_is_the_negative_log_likelihood_of_the_action():
    network = networks.build(3, PolicyConfig(hidden_sizes=(4,)), categories=(3,))
    params = networks.init_params(network, 2, jax.random.key(0))
    obs, action = jnp.array([[0.3, -0.2]]), jnp.array([[0.5, -0.7, 2.0]])
    mean, log_std, logits = (np.asarray(x, np.float64)[0] for x in networks.apply_policy(network, params, obs))
    u = np.arctanh([0.5, -0.7])
    of_numbers = -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    by_hand = (of_numbers - np.log(1 - np.tanh(u) ** 2)).sum() + logits[2] - np.log(np.exp(logits).sum())
    found = cloning.loss(params, network, cloning.Pairs(obs, cloning.before_squashing(action, 2)))
    assert float(found) == pytest.approx(-by_hand, rel=1e-5)


def test_likelihood_finds_the_shares_of_categories():
    network = networks.build(1, PolicyConfig(hidden_sizes=(4,)), categories=(3,))
    params = networks.init_params(network, 1, jax.random.key(0))
    chosen = jnp.array([[0.0]] * 20 + [[1.0]] * 70 + [[2.0]] * 10)
    pairs = cloning.Pairs(jnp.zeros((100, 1)), chosen)
    epoch = cloning.epochs_of(network, params, PolicyConfig(), PpoConfig(), 100)
    fit = cloning.begin(params, PpoConfig())
    for number in range(400):
        fit, loss, _ = epoch(fit, pairs, None, jax.random.key(number), jnp.float32(0.02))
    (logits,) = networks.apply_policy(network, cloning.params_of(fit, params), jnp.zeros(1))
    np.testing.assert_allclose(jax.nn.softmax(logits), [0.2, 0.7, 0.1], atol=0.01)
    entropy = -sum(p * np.log(p) for p in (0.2, 0.7, 0.1))
    assert float(loss) == pytest.approx(entropy, abs=1e-3)


def test_the_epoch_that_is_best_on_held_out_pairs_is_kept():
    network = networks.build(1, PolicyConfig(hidden_sizes=(4,)), categories=(2,))
    params = networks.init_params(network, 1, jax.random.key(0))
    always, never = (cloning.Pairs(jnp.zeros((8, 1)), jnp.full((8, 1), x)) for x in (1.0, 0.0))
    epoch = cloning.epochs_of(network, params, PolicyConfig(), PpoConfig(), 8)
    fit = cloning.begin(params, PpoConfig())
    fit, _, first = epoch(fit, always, never, jax.random.key(0), jnp.float32(0.1))
    kept = np.asarray(fit.kept)
    fit, _, second = epoch(fit, always, never, jax.random.key(1), jnp.float32(0.1))
    assert second > first
    np.testing.assert_array_equal(fit.kept, kept)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_clone_acts_as_its_teacher_and_ppo_goes_on_from_it(recorded, tmp_path, capsys):
    data, returns = recorded
    demonstrations.write(tmp_path / "data.npz", data)
    settings = ["--epochs", "150", "--learning-rate", "1e-2", "--minibatch-size", "64"]
    small = list(_flags(SMALL))
    used = list(_flags({name: SMALL[name] for name in ("policy", "ppo", "eval")}))
    assert cli.main(["clone", "data.npz", "--env", "point", "--run-dir", "cloned", *settings, *used]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["eval"]["mean"] > returns.mean() - 0.2
    facts = json.loads((tmp_path / "cloned/clone.json").read_text())
    assert facts["episodes"] == 16 and len(facts["losses"]) == len(facts["held_out_losses"]) == 150
    cloned = load.load(tmp_path / "cloned")
    kept = ["--init.carry", "policy", "normalizer", "--init.critic-warmup", "4"]
    arguments = ["--env", "point", "--init.path", "cloned", "--total-env-steps", "128", "--run-dir", "on", *small]
    assert cli.main(["train", *arguments, *kept]) == 0
    on = load.load(tmp_path / "on")
    name = "learner/params/params/actor/mlp/hidden_0/kernel"
    np.testing.assert_array_equal(on.arrays[name], cloned.arrays[name])
    assert cli.main(["export", "cloned", "--out", "cloned.npz"]) == 0
    for command in ("watch", "report", "plot"):
        capsys.readouterr()
        assert cli.main([command, "cloned"]) == 2
        assert "cloned: this policy was cloned, which makes no curves" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--run-dir", "cloned", "--total-env-steps", "128"]) == 0
    assert [int(step.name) for step in (tmp_path / "cloned/ckpt").iterdir() if step.name.isdigit()] == [0, 1]
    obs = data.obs[:3]
    np.testing.assert_allclose(cloned.policy(obs), towards_the_origin(obs.T, 0).T, atol=0.2)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_teacher_who_is_asked_corrects_what_demonstrations_do_not_show(tmp_path):
    """The demonstrations stay where x > 0, so that the clone does not know what to do elsewhere."""
    env = envs.make(PointMass())
    data, _ = record(towards_the_origin, Config(env="point_mass"), 32, 0, env=env)
    right = np.isin(data.episode, data.episode[data.start & (data.obs[:, 0] > 0.3)])
    data = data.only(right)
    settings = CloningConfig(epochs=40, learning_rate=1e-2, minibatch_size=64, held_out=0)
    changes = {**SMALL, "env": "point"}
    alone = clone(data, changes, settings, tmp_path / "alone")
    (tmp_path / "teacher.py").write_text(
        "import numpy as np\ndef act(obs, step):\n    return np.clip(-obs[:2] / 0.3, -1, 1)\n"
    )
    asking = CloningConfig(**{**vars(settings), "teacher": "teacher.py:act", "dagger_rounds": 2})
    asked = clone(data, changes, asking, tmp_path / "asked")
    left = np.array([[x, y, 50 + 100 * x] for x in (-0.9, -0.6) for y in (-0.5, 0.5)], np.float32)
    error_of = lambda policy: np.abs(policy(left) - np.clip(-left[:, :2] / 0.3, -1, 1)).mean()  # noqa: E731
    assert error_of(asked.policy) < 0.6 * error_of(alone.policy)
    facts = json.loads((tmp_path / "asked/clone.json").read_text())
    assert [row["steps"] for row in facts["rounds"]] == [160, 160] and facts["steps"] == len(data.obs) + 320


def _flags(values, prefix="--"):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flags(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"{prefix}no-{name}"
        else:
            yield from (f"{prefix}{name}", str(value))


def test_a_teacher_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "teacher.py").write_text("def act(obs, step):\n    return [2.0, 0.0]\n")
    settings = CloningConfig(epochs=1, teacher="teacher.py:act", dagger_rounds=1)
    with pytest.raises(UserError, match=r"controller: act returned .* numbers must be in \[-1, 1\]"):
        clone(_data(), {**SMALL, "env": "point"}, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_with_files_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine").write_text("x")
    with pytest.raises(UserError, match=r"run_dir: .* is not empty"):
        clone(_data(), {**SMALL, "env": "point"}, run_dir=tmp_path / "run")


BAD = {
    "lacks the array action": {"action": None},
    "lacks start": {"start": None},
    "obs is empty": {"obs": np.zeros((0, 3)), "action": np.zeros((0, 2)), "start": np.zeros(0, bool)},
    "obs is not finite at step 2": {"obs": np.array([[0.0] * 3] * 2 + [[np.nan] * 3] + [[0.0] * 3])},
    "obs is not finite at step 0": {"obs": np.full((4, 3), 1e39)},
    "action is not finite at step 1": {"action": np.array([[0, 0], [np.inf, 0], [0, 0], [0, 0]])},
    "action has 3 steps": {"action": np.zeros((3, 2))},
    "reward is not finite": {"reward": np.array([0, 0, 0, np.nan])},
    "start is bool[3]": {"start": np.array([True, False, False])},
    "start is false at step 0": {"start": np.zeros(4, bool)},
    "outside of [-1, 1]": {"action": np.full((4, 2), 2.0)},
    "action_low is [1]": {"action_low": np.array([-1.0])},
    "action_low must be below action_high": {"action_low": np.array([1.0, 1.0])},
    "say of how many categories": {"action": np.zeros((4, 2), int)},
    "must be one of 0 to 1": {"action": np.full((4, 1), 2), "categories": np.array([2])},
    "obs is an array of <U1": {"obs": np.full((4, 3), "a")},
    "obs is [4]": {"obs": np.zeros(4)},
    "format is 2": {"format": np.int64(2)},
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_arrays_are_named(message, tmp_path):
    good = {"obs": np.zeros((4, 3)), "action": np.zeros((4, 2)), "start": np.array([True, False, True, False])}
    arrays = {name: value for name, value in (good | BAD[message]).items() if value is not None}
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(UserError) as error:
        demonstrations.read(tmp_path / "data.npz")
    assert message in str(error.value) and "data.npz" in str(error.value) and "\n" not in str(error.value)


class _Executed:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_damaged_files_are_refused_and_execute_nothing(tmp_path, capsys):
    np.savez(tmp_path / "pickled.npz", obs=np.array([_Executed()], object))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(_Executed()))
    np.savez_compressed(tmp_path / "whole.npz", obs=np.random.default_rng(0).normal(size=(50, 3)))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "turned.npz").write_bytes(whole[:200] + bytes(255 - x for x in whole[200:400]) + whole[400:])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name in ("pickled", "pickle", "cut", "turned", "empty", "one", "none"):
        assert cli.main(["clone", f"{name}.npz", "--env", "point", "--run-dir", "run"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"mjxppo: data: {name}.npz") and said.count("\n") == 1
    assert not (tmp_path / "executed").exists() and not (tmp_path / "run").exists()


def _data(obs_size=3, actions=None, env="point"):
    actions = actions or ActionSpec(2)
    vectors = np.zeros((4, actions.size), np.float32)
    return Demonstrations(np.zeros((4, obs_size), np.float32), vectors, np.arange(4) % 2 == 0, actions, env)


@pytest.mark.parametrize(
    ("field", "data", "changes", "settings"),
    [
        ("data: obs has 4", _data(obs_size=4), {}, {}),
        ("data: action is 3 numbers", _data(actions=ActionSpec(3)), {}, {}),
        ("data: action is a choice among 2", _data(actions=ActionSpec(0, (2,))), {}, {}),
        ("demonstrations: the data hold 2", _data(), {}, {"demonstrations": 3}),
        ("env: ", _data(env=None), {}, {}),
        ("env: there is no task 'nothing'", _data(env="nothing"), {}, {}),
        ("num_seeds: must be 1", _data(), {"num_seeds": 2}, {}),
        ("policy.history: must be 1", _data(), {"policy": {"history": 2}}, {}),
        ("dagger_rounds: needs a teacher", _data(), {}, {"dagger_rounds": 1}),
        ("teacher: is asked in rounds", _data(), {}, {"teacher": "x.py:f"}),
        ("controller: cannot import .*x.py", _data(), {}, {"teacher": "x.py:f", "dagger_rounds": 1}),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(field, data, changes, settings, tmp_path):
    with pytest.raises(UserError, match=field.replace("(", r"\(")):
        clone(data, {**SMALL, **changes}, CloningConfig(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [0.0]", r"returned \[1\]; the task takes \[2\]"),
        ("return [0.0, 1.5]", r"numbers must be in \[-1, 1\]"),
        ("return [0.0, float('nan')]", r"numbers must be in \[-1, 1\]"),
        ("return step['x']", "failed at step 0: TypeError"),
    ],
)
def test_a_controller_that_returns_no_action_is_named(body, message, tmp_path):
    scope = {}
    exec(f"def act(obs, step):\n    {body}", scope)
    with pytest.raises(UserError, match=message):
        record(scope["act"], Config(env="point_mass"), 2, 0, env=envs.make(PointMass()))


def test_record_refuses_before_it_works(tmp_path, capsys):
    (tmp_path / "there.npz").write_bytes(b"mine")
    (tmp_path / "own.py").write_text("x = 1\n")
    for arguments, field in (
        (["own.py:x", "--env", "point"], "controller: own.py has no function x"),
        (["own.py", "--env", "point"], "controller: own.py"),
        (["own.py:x"], "env: "),
        (["own.py:x", "--env", "point", "--out", "there.npz"], "out: there.npz exists"),
        (["own.py:x", "--env", "point", "--out", "x.txt"], "out: x.txt must end in .npz"),
    ):
        assert cli.main(["record", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"mjxppo: {field}") and said.count("\n") == 1, said
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


def _minari(folder, space, actions, obs_size=3, env="CartPole-v1"):
    (folder / "data").mkdir(parents=True)
    about = {"action_space": json.dumps(space), "env_spec": json.dumps({"id": env})}
    (folder / "data/metadata.json").write_text(json.dumps(about))
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for number in (0, 2, 10):  # their order is that of the numbers
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.full((3, obs_size), number, np.float32)
            group["actions"], group["rewards"] = actions, np.zeros(2)


def test_minaris_folders_are_read(tmp_path):
    _minari(tmp_path / "choices", {"type": "Discrete", "n": 2, "start": 1}, np.array([1, 2]))
    data = minari.read_minari(tmp_path / "choices")
    assert data.env == "CartPole-v1" and data.actions == ActionSpec(0, (2,))
    assert data.action[:, 0].tolist() == [0, 1] * 3 and data.obs[:, 0].tolist() == [0, 0, 2, 2, 10, 10]
    assert data.start.tolist() == [True, False] * 3
    _minari(tmp_path / "numbers", {"type": "Box", "low": [-2.0], "high": [2.0]}, np.array([[1.0], [-2.0]]), 3, "X-v0")
    data = minari.read_minari(tmp_path / "numbers/data")
    assert data.action[:2, 0].tolist() == [0.5, -1] and data.env == "gymnasium:X-v0"
    (tmp_path / "numbers/data/main_data.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"data: .*main_data.hdf5 is damaged"):
        minari.read_minari(tmp_path / "numbers")
    (tmp_path / "choices/data/metadata.json").write_text("{}")
    with pytest.raises(UserError, match=r"data: .*metadata.json is damaged"):
        minari.read_minari(tmp_path / "choices")


def test_without_h5py_a_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert cli.main(["clone", str(tmp_path), "--env", "point"]) == 2
    assert "pip install 'mjxppo[minari]'" in capsys.readouterr().err
