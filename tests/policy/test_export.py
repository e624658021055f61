"""Exported policies: the same actions in every format, files that hold only data, and bad input in one line."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import PointMass

import mjxppo
from mjxppo import cli, console
from mjxppo.config.schema import Config, PolicyConfig, PpoConfig
from mjxppo.envs import Environment
from mjxppo.errors import UserError
from mjxppo.policy.export import export
from mjxppo.policy.policy import Policy
from mjxppo.ppo import networks, normalize
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import checkpoint

OBS_SIZE, ACTION_SIZE = 11, 3
FORMATS = ("npz", "onnx", "stablehlo")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def make_policy(activation="tanh", obs_clip=10.0, hidden=(64, 48), history=1) -> Policy:
    rng = np.random.default_rng(0)
    sizes = (history * OBS_SIZE + (history - 1) * ACTION_SIZE, *hidden, ACTION_SIZE)
    layers = tuple(
        ((rng.normal(size=(m, n)) / np.sqrt(m)).astype(np.float32), rng.normal(size=n).astype(np.float32) * 0.3)
        for m, n in itertools.pairwise(sizes)
    )
    normal = np.isfinite(obs_clip)
    mean = rng.normal(size=sizes[0]).astype(np.float32) * 3 * normal
    scale = np.exp(rng.normal(size=sizes[0])).astype(np.float32) if normal else np.ones(sizes[0], np.float32)
    return Policy(mean.astype(np.float32), scale, obs_clip, layers, activation, history)


def observations(size=OBS_SIZE, largest=1e30) -> np.ndarray:
    """10 000 of them: half of ordinary size, the others of all sizes up to ``largest``."""
    rng = np.random.default_rng(1)
    obs = 3 * rng.normal(size=(10_000, size))
    obs[5000:] *= 10 ** rng.uniform(-6, np.log10(largest) - 1, size=(5000, size))
    return obs.astype(np.float32)


def run_npz(path, obs):
    return mjxppo.load_policy(path)(obs)


def run_onnx(path, obs):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(value.name, value.type) for value in session.get_inputs()] == [("obs", "tensor(float)")]
    (action,) = session.run(["action"], {"obs": obs})
    return action


def run_stablehlo(path, obs):
    from jax import export as jax_export

    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda")
    return np.asarray(exported.call(obs))


def of_npz(path, history):
    return mjxppo.load_policy(path).begin()


def of_onnx(path, history):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return with_past(lambda obs, past: session.run(["action", "next_past"], {"obs": obs, "past": past}), history)


def of_stablehlo(path, history):
    from jax import export as jax_export

    return with_past(jax_export.deserialize(bytearray(path.read_bytes())).call, history)


def with_past(act, history):
    """A function of observations from one of (observation, past), as the manual says."""
    past = None

    def remembering(obs):
        nonlocal past
        if past is None:
            past = np.concatenate([np.zeros((len(obs), ACTION_SIZE), np.float32), obs] * (history - 1), axis=1)
        action, past = (np.asarray(x) for x in act(obs, past))
        return action

    return remembering


BEGIN = {"npz": of_npz, "onnx": of_onnx, "stablehlo": of_stablehlo}


def written(policy, tmp_path, suffix) -> Path:
    if suffix == "onnx":
        pytest.importorskip("onnx")
    path = tmp_path / f"policy.{suffix}"
    export(policy, "hopper", path)
    return path


RUN = {"npz": run_npz, "onnx": run_onnx, "stablehlo": run_stablehlo}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "elu"])
def test_every_format_gives_the_same_actions(tmp_path, suffix, activation):
    policy = make_policy(activation)
    obs = observations()
    action = RUN[suffix](written(policy, tmp_path, suffix), obs)
    assert action.shape == (10_000, ACTION_SIZE) and action.dtype == np.float32
    assert np.abs(action - policy(obs)).max() <= 1e-5


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_remembers_alike(tmp_path, suffix):
    policy, episode = make_policy(history=4), observations(largest=100).reshape(10, -1, OBS_SIZE)
    act, expected = BEGIN[suffix](written(policy, tmp_path, suffix), 4), policy.begin()
    actions = [expected(obs) for obs in episode]
    np.testing.assert_allclose([act(obs) for obs in episode], actions, atol=1e-5)
    assert np.abs(actions[5] - policy.begin()(episode[5])).max() > 0.1, "the past matters"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_policy_that_does_not_normalise_is_not_clipped(tmp_path, suffix):
    policy, obs = make_policy(obs_clip=float("inf")), observations(largest=100)
    assert np.abs(obs).max() > 10
    path = written(policy, tmp_path, suffix)
    assert np.abs(RUN[suffix](path, obs) - policy(obs)).max() <= 1e-5
    if suffix == "npz":
        assert mjxppo.load_policy(path).obs_clip == float("inf")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_batch_size_will_do(tmp_path, suffix, batch):
    policy, obs = make_policy(), observations()[:batch]
    action = RUN[suffix](written(policy, tmp_path, suffix), obs)
    np.testing.assert_allclose(action, policy(obs), atol=1e-5)


def test_a_npz_reads_back_to_the_bit_and_is_the_same_file_each_time(tmp_path):
    policy = make_policy("elu")
    path = written(policy, tmp_path, "npz")
    first, back = path.read_bytes(), mjxppo.load_policy(str(path))
    assert written(policy, tmp_path, "npz").read_bytes() == first
    assert (back.activation, back.obs_clip) == ("elu", 10.0)
    np.testing.assert_array_equal(back.obs_mean, policy.obs_mean)
    np.testing.assert_array_equal(back(observations()), policy(observations()))
    assert [p.name for p in tmp_path.iterdir()] == ["policy.npz"], "no temporary file is left"


def test_a_npz_holds_what_the_manual_says(tmp_path):
    with np.load(written(make_policy(history=2), tmp_path, "npz"), allow_pickle=False) as file:
        arrays = dict(file)
    listed = re.findall(r"^\| `(\w+)` \| (.+?) \|", DOCS.read_text(), re.M)
    names = {name for name, _ in listed}
    found = {re.sub(r"_\d+$", "_i", name) for name in arrays}
    assert found | {"actions"} == names, "tests/policy/test_choices.py has the files of choices"
    assert arrays["activation"].dtype.kind == "U" and arrays["env"] == "hopper"
    assert (arrays["format"], arrays["history"]) == (2, 2)
    for name, kind in listed:
        if kind.startswith("float32"):
            assert arrays[name.replace("_i", "_0")].dtype == np.float32, name
    with np.load(written(make_policy(), tmp_path, "npz"), allow_pickle=False) as file:
        assert file["format"] == 1 and "history" not in file, "what older readers read"


@pytest.mark.parametrize(("activation", "history"), [("tanh", 1), ("relu", 1), ("silu", 1), ("elu", 1), ("tanh", 3)])
def test_the_manuals_runner_needs_only_numpy(tmp_path, activation, history):
    (code,) = re.findall(r'```python title="run_policy.py"\n(.*?)```', DOCS.read_text(), re.S)
    policy, episode = make_policy(activation, history=history), observations().reshape(5, -1, OBS_SIZE)
    path = written(policy, tmp_path, "npz")
    np.save(tmp_path / "obs.npy", episode)
    tail = (
        "import sys; policy = Policy(sys.argv[1])\n"
        "for _ in range(2):\n    policy.reset(); actions = [policy(obs) for obs in np.load('obs.npy')]\n"
        "np.save('action.npy', actions); assert not {'jax', 'mjxppo', 'mujoco'} & set(sys.modules)\n"
    )
    (tmp_path / "run_policy.py").write_text(code + tail)
    done = subprocess.run([sys.executable, "run_policy.py", path.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    act = policy.begin()
    np.testing.assert_array_equal(np.load(tmp_path / "action.npy"), [act(obs) for obs in episode])


def test_a_npz_needs_no_jax(tmp_path):
    path = written(make_policy(), tmp_path, "npz")
    code = "import sys, mjxppo, numpy as np; policy = mjxppo.load_policy(sys.argv[1]);"
    code += "policy(np.zeros(policy.obs_size)); print([m for m in ('jax', 'mujoco', 'orbax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


class TestCheckpoint:
    """From a run on disk, by the command line, against the network that was trained."""

    @pytest.fixture(params=["state_dependent", "state_independent"])
    def run(self, request, tmp_path):
        """A run's directory, and the trained network's own mean actions."""
        policy = PolicyConfig(hidden_sizes=(32, 16), activation="silu", std=request.param)
        ppo = PpoConfig(num_envs=8, block_size=8, rollout_length=4, num_minibatches=4)
        config = Config(env="point_mass", num_devices=1, policy=policy, ppo=ppo)
        program = TrainingProgram(Environment(PointMass()), config)
        state = program.init()
        rng = np.random.default_rng(2)
        params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.5, state.learner.params)
        moments = dataclasses.replace(
            state.learner.obs_moments, mean=np.float32([1, -2, 40]), var=np.float32([0.5, 3, 900])
        )
        state = dataclasses.replace(
            state, learner=dataclasses.replace(state.learner, params=params, obs_moments=moments)
        )
        writer = checkpoint.CheckpointWriter(tmp_path / "run" / "ckpt", config)
        writer.save(7, state, None)
        writer.close()

        @jax.jit
        def act(obs):
            mean, _ = networks.apply_policy(program.network, params, normalize.normalize_obs(moments, obs))
            return jax.numpy.tanh(mean)

        return tmp_path / "run", act

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_gives_the_trained_networks_actions(self, run, suffix, tmp_path, capsys):
        if suffix == "onnx":
            pytest.importorskip("onnx")
        directory, act = run
        out = tmp_path / "made" / f"policy.{suffix}"
        assert cli.main(["export", str(directory), "--out", str(out)]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "checkpoint": str(directory.resolve() / "ckpt" / "7"),
            "path": str(out),
            "format": suffix,
            "env": "point_mass",
            "obs_size": 3,
            "action_size": 2,
            "history": 1,
        }
        obs = observations(size=3)
        assert np.abs(RUN[suffix](out, obs) - np.asarray(act(obs))).max() <= 1e-5

    def test_a_film_of_it_leaves_the_runs_own_video_alone(self, run, capsys, monkeypatch):
        monkeypatch.setattr("mjxppo.render.film", lambda policy, config, out, **options: {"path": str(out)})
        assert cli.main(["render", str(run[0])]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == str(run[0].resolve() / "film-7.mp4")

    def test_loads_as_a_policy_by_any_of_its_names(self, run, capsys):
        directory, act = run
        obs = observations(size=3)
        for path in (directory, directory / "ckpt", directory / "ckpt" / "7"):
            assert np.abs(mjxppo.load_policy(path)(obs) - np.asarray(act(obs))).max() <= 1e-5
        assert cli.main(["export", str(directory)]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == str(directory.resolve() / "policy.npz")


class TestExportedPoliciesAreRun:
    """By the commands that run a policy, in the task that it was trained on."""

    @pytest.mark.parametrize("path", sorted((DOCS.parent / "policies").glob("*.npz")), ids=lambda path: path.stem)
    def test_the_manuals_policies_have_the_returns_that_it_lists(self, path, capsys):
        assert cli.main(["evaluate", str(path), "--episodes", "1", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        name, seed = path.stem.split("_seed")
        listed = json.loads(path.with_name(f"{name}.json").read_text())["policies"][f"seed-{seed}"]
        assert result["checkpoint"] == str(path) and result["seeds"][0] == listed["seeds"][0]
        # HalfCheetah amplifies the rounding of another machine's matrix products.
        assert result["mean"] == pytest.approx(listed["returns"][0], rel=0.05)

    def test_options_of_the_task_go_with_them(self, tmp_path, capsys):
        lengths = []
        for options in ({}, {"terminate_when_unhealthy": False}):
            export(make_policy(), "hopper", tmp_path / "policy.npz", options)
            assert cli.main(["evaluate", str(tmp_path / "policy.npz"), "--episodes", "1", "--json"]) == 0
            lengths += json.loads(capsys.readouterr().out)["lengths"]
        assert lengths[0] < lengths[1] == 1000, "it falls over"

    def test_an_evaluation_ends_with_mean_spread_and_worst_and_the_episodes_go_to_a_file(self, tmp_path, capsys):
        export(make_policy(), "hopper", tmp_path / "policy.npz")
        arguments = ["evaluate", str(tmp_path / "policy.npz"), "--episodes", "30", "--out", str(tmp_path / "all.json")]
        assert cli.main(arguments) == 0
        printed = capsys.readouterr()
        everything = json.loads((tmp_path / "all.json").read_text())
        short = {name: value for name, value in everything.items() if name not in ("returns", "lengths", "seeds")}
        assert json.loads(printed.out) == short and len(everything["returns"]) == 30
        assert len(printed.out.splitlines()) < 15
        mean, std, worst = (console.score(everything[name]) for name in ("mean", "std", "min"))
        last = f"return in Gymnasium's C MuJoCo: {mean} ± {std} (standard deviation) over 30 episodes, worst {worst}"
        assert printed.err.splitlines()[-1] == last

    def test_a_film_is_put_beside_them(self, tmp_path, capsys):
        export(make_policy(), "hopper", tmp_path / "policy.npz")
        assert cli.main(["render", str(tmp_path / "policy.npz"), "--max-steps", "5"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "policy.mp4")
        assert (tmp_path / "policy.mp4").stat().st_size > 1000

    @pytest.mark.parametrize(
        ("env", "arguments", "message"),
        [
            ("point_mass", ["--engine", "own"], "env: there is no task 'point_mass'"),
            ("hopper", ["--as-trained", "--engine", "planar"], "as_trained: an exported policy does not say"),
        ],
    )
    def test_what_the_file_does_not_say_is_named_in_one_line(self, tmp_path, env, arguments, message, capsys):
        export(make_policy(), env, tmp_path / "policy.npz")
        assert cli.main(["evaluate", str(tmp_path / "policy.npz"), *arguments]) == 2
        printed = capsys.readouterr()
        assert message in printed.err and len(printed.err.strip().splitlines()) == 1 and printed.out == ""


class TestBadInput:
    @pytest.fixture(autouse=True)
    def working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--out", "policy.pt"], "policy.pt ends in none of .npz, .onnx, .stablehlo"),
            (["--out", "policy"], "ends in none of"),
            (["--out", "policy.npz"], "there is no such directory"),
            (["--outt", "policy.npz"], "--outt"),
        ],
    )
    def test_is_one_line(self, arguments, message, capsys):
        assert cli.main(["export", "missing", *arguments]) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert len(printed.err.strip().splitlines()) == 1 and printed.out == ""

    def test_onnx_that_is_not_installed_is_named_with_the_remedy(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnx", None)
        assert cli.main(["export", "missing", "--out", "policy.onnx"]) == 2
        assert "pip install 'mjxppo[onnx]'" in capsys.readouterr().err

    @pytest.mark.parametrize("place", ["file/policy.npz", "directory.npz", "/proc/policy.npz"])
    def test_a_place_that_cannot_be_written(self, place):
        Path("file").write_text("")
        Path("directory.npz").mkdir()
        with pytest.raises(UserError, match=re.escape(place.split("/policy")[0])):
            export(make_policy(), "hopper", Path(place))
        assert sorted(p.name for p in Path().iterdir()) == ["directory.npz", "file"]

    def test_an_old_file_outlives_a_failure(self, monkeypatch):
        Path("policy.npz").write_text("old")
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UserError, match=r"cannot write policy.npz: No space left"):
            export(make_policy(), "hopper", Path("policy.npz"))
        assert [p.name for p in Path().iterdir()] == ["policy.npz"] and Path("policy.npz").read_text() == "old"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": np.int64(4)}, "has format 4, this version reads 1 to 3"),
            ({"format": np.int64(2)}, "lacks history"),
            ({"format": np.int64(2), "history": np.int64(3)}, "history is 3"),
            ({"format": np.int64(2), "history": np.int64(0)}, "history is 0"),
            ({"format": np.int64(2), "history": np.float32([1, 2])}, "history is "),
            ({"format": None}, "is no policy written by mjxppo export"),
            ({"weight_1": None}, "lacks weight_1|weight_2 is"),
            ({"weight_0": None, "weight_1": None, "weight_2": None}, "lacks weight_0"),
            ({"obs_scale": None}, "lacks obs_scale"),
            ({"obs_scale": np.ones(3, np.float32)}, "obs_scale is float32"),
            ({"bias_0": np.zeros(64, int)}, "bias_0 is int64"),
            ({"weight_0": np.float32(1)}, "weight_0 is float32"),
            ({"activation": np.str_("gelu")}, "activation is 'gelu'"),
            ({"env": np.array([print], object)}, "no policy written by mjxppo export, or is damaged"),
        ],
    )
    def test_a_npz_with_other_contents_is_refused(self, change, message, tmp_path):
        path = written(make_policy(), tmp_path, "npz")
        with np.load(path) as file:
            arrays = {**file, **change}
        np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
        with pytest.raises(UserError, match=message):
            mjxppo.load_policy(path)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"nothing of the kind"])
    def test_a_file_that_is_no_npz_is_refused(self, content):
        Path("policy.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"policy.npz: is no policy"):
            mjxppo.load_policy("policy.npz")

    def test_a_damaged_npz_is_refused(self, tmp_path):
        path = written(make_policy(), tmp_path, "npz")
        whole = path.read_bytes()
        for cut in range(0, len(whole), 997):
            path.write_bytes(whole[:cut] + bytes([whole[cut] ^ 255]) + whole[cut + 1 :])
            try:
                mjxppo.load_policy(path)  # bytes that nothing depends on may change
            except UserError as error:
                assert "policy.npz" in str(error)

    @pytest.mark.parametrize("path", ["missing.npz", "missing", "."])
    def test_a_policy_that_is_not_there(self, path):
        with pytest.raises(UserError, match=r"there is no such|holds no checkpoint"):
            mjxppo.load_policy(path)
