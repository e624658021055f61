"""Training from Python: the shortest way to a policy, callbacks, resuming, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy import PointMass

import mjxppo
from mjxppo import cli, envs
from mjxppo.envs import registry
from mjxppo.envs.foreign.brax import BraxTask
from mjxppo.envs.hopper import Hopper
from mjxppo.errors import UserError
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.run import checkpoint, failure, loop, memory, trained

SMALL = {  # the program of tests/test_train.py: compiled once for both
    "ppo": {"num_envs": 64, "block_size": 16, "rollout_length": 16, "num_minibatches": 4},
    "log": {"every_updates": 3},
    "checkpoint": {"every_updates": 5},
    "num_devices": 2,
}
UPDATE = 64 * 16


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_nothing_to_a_policy():
    learning = SMALL | {"ppo": SMALL["ppo"] | {"learning_rate": 3e-3}}
    learning |= {"eval": {"episodes": 20, "video": True}}
    run = mjxppo.train_policy(PointMass(), config=learning, total_env_steps=40 * UPDATE, evaluate=True, film=True)
    assert run.run_dir.parts[0] == "runs" and run.outcome.env_steps == 40 * UPDATE
    assert run.policy(np.zeros(3)).shape == (2,)
    assert [row["update"] for row in run.rows] == list(range(1, 41))
    result = run.evaluate(episodes=20)
    assert (result["env"], result["engine"], result["episodes"]) == ("point_mass", "own", 20)
    # Standing still costs 0.67 a step.
    assert result["mean"] > -5 > -0.67 * 20 and set(result["lengths"]) == {20}
    assert run.summary["eval"]["mean"] == pytest.approx(result["mean"]), "the same episodes, on the environment itself"
    assert json.loads((run.run_dir / "eval.json").read_text())["returns"] == pytest.approx(result["returns"])
    assert json.loads((run.run_dir / "summary.json").read_text())["env_steps"] == 40 * UPDATE
    assert not (run.run_dir / "video.mp4").exists(), "only Gymnasium's tasks can be filmed"
    assert "point_mass" not in registry.registered(), "no name leads to it"
    with pytest.raises(UserError, match="there is no task 'point_mass'"):
        mjxppo.load_run(run.run_dir)
    try:
        mjxppo.register("Point-Mass", PointMass)
        again = mjxppo.load_run(run.run_dir / "ckpt")
    finally:
        registry._registered.clear()
    assert (again.run_dir.resolve(), again.config) == (run.run_dir.resolve(), run.config)
    assert again.rows == run.rows and again.outcome == run.outcome and again.summary == run.summary
    assert np.array_equal(again.policy(np.ones(3)), run.policy(np.ones(3))) and again.env.name == "point_mass"
    run.export("policy.npz")
    # The last bit may depend on where in memory the weights lie.
    np.testing.assert_allclose(mjxppo.load_policy("policy.npz")(np.ones(3)), run.policy(np.ones(3)), rtol=1e-6)
    np.testing.assert_allclose(mjxppo.load_policy(run.run_dir)(np.ones(3)), run.policy(np.ones(3)), rtol=1e-6)


def test_metrics_are_a_table_where_pandas_is_installed(tmp_path, monkeypatch):
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "env_steps": 10}\n{"update": 2, "env_steps": 20}\n')
    run = trained.TrainedRun(tmp_path, None, None, None, None, {})
    monkeypatch.setattr(trained.importlib.util, "find_spec", lambda name: None)
    assert run.metrics == run.rows == [{"update": 1, "env_steps": 10}, {"update": 2, "env_steps": 20}]
    monkeypatch.setattr(trained.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("a table", rows)))
    assert run.metrics == ("a table", run.rows)


def test_dir_shows_what_there_is():
    assert {"load_policy", "load_run", "register", "train_policies", "train_policy", "envs", "physics"} <= set(
        dir(mjxppo)
    )
    for name in mjxppo.__all__:
        assert getattr(mjxppo, name) is not None


OWN = """
import jax, jax.numpy as jnp, mjxppo
from mjxppo.envs import Task

class Own(Task):
    name, gym_id, obs_size, action_size, max_episode_steps, step_duration = "own", None, 1, 1, 8, 0.1
    def __init__(self, speed=0.1): self.speed = speed
    def initial(self, keys): return jnp.zeros((len(keys), 1))
    def observe(self, worlds): return worlds
    def advance(self, worlds, action):
        return worlds + self.speed * action, {"reward": worlds[:, 0]}, jnp.zeros(len(worlds), bool)

mjxppo.register("own", Own)
mjxppo.register("renamed-hopper", lambda: mjxppo.envs.make("hopper"), gym_id="Hopper-v5")
"""


class TestOwnTasks:
    @pytest.fixture(autouse=True)
    def tasks(self, tmp_path, monkeypatch):
        (tmp_path / "own_tasks.py").write_text(OWN)
        monkeypatch.setenv(registry.MODULES, "")
        yield
        registry._registered.clear()
        registry.import_place.cache_clear()
        sys.modules.pop("own_tasks", None)

    @pytest.mark.usefixtures("compiled_quickly")
    def test_are_trained_and_evaluated_from_the_command_line(self, capsys):
        small = ["--ppo.num-envs", "8", "--ppo.block-size", "4", "--ppo.rollout-length", "4", "--num-devices", "1"]
        small += ["--ppo.num-minibatches", "2", "--policy.hidden-sizes", "4", "--total-env-steps", "64"]
        small += ["--env-options.speed", "0.5", "--eval.episodes", "2"]
        assert cli.main(["train", "--env", "own", *small]) == 2
        assert "there is no task 'own'" in capsys.readouterr().err
        assert cli.main(["--tasks", "own_tasks.py", "train", "--env", "Own", "--run-dir", "run", *small]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["eval"]["engine"] == "own"
        assert printed.err.splitlines()[-1].endswith(" -m mjxppo report run") or "mjxppo report run" in printed.err
        assert cli.main(["--tasks", "own_tasks.py", "evaluate", "run", "--engine", "own", "--episodes", "2"]) == 0
        assert json.loads(capsys.readouterr().out)["env"] == "own"

    def test_with_a_counterpart_in_gymnasium_are_filmed_and_evaluated_there(self, monkeypatch):
        monkeypatch.setenv(registry.MODULES, "own_tasks")
        monkeypatch.syspath_prepend(".")
        assert registry.gym_id_of(registry.canonical_name("Renamed-Hopper")) == "Hopper-v5"
        assert isinstance(envs.make("renamed_hopper").task, Hopper)

    @pytest.mark.parametrize(
        "name, make, message",
        [
            ("hopper", PointMass, "is a task of this package"),
            ("brax:own", PointMass, "is no name"),
            ("", PointMass, "is no name"),
            ("own", 3, "needs a Task class or a function"),
        ],
    )
    def test_are_refused_by_name(self, name, make, message):
        with pytest.raises(UserError, match=message):
            mjxppo.register(name, make)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["--tasks", "missing.py", "train", "--env", "own"], "tasks: cannot import"),
            (["--tasks", "no_such_module", "train", "--env", "own"], "tasks: cannot import no_such_module"),
            (["--tasks", "broken.py", "train", "--env", "own"], "ZeroDivisionError"),
            (["--tasks", "own_tasks.py"], "--tasks: takes a module"),
            (["--tasks", "own_tasks.py", "train", "--env", "own", "--env-options.sped", "1"], "own does not take them"),
        ],
    )
    def test_that_cannot_be_used_are_named_in_one_line(self, arguments, message, capsys):
        Path("broken.py").write_text("1 / 0")
        before = sorted(Path().iterdir())
        assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1, said
        assert [path for path in sorted(Path().iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize("saves", ["as long as they take", "until the next is due"])
def test_callbacks_see_every_update_and_every_whole_checkpoint_once(saves, monkeypatch):
    if saves == "until the next is due":  # the first one; the second is complete before the update after it is
        poll = lambda self: None if self._pending == 6 else self.finish()  # noqa: E731
        monkeypatch.setattr(checkpoint.CheckpointWriter, "poll", poll)
    rows, steps = [], []

    def on_checkpoint(step: Path) -> None:
        checkpoint.verify(step)
        steps.append(int(step.name))

    run = mjxppo.train_policy(
        "brax:fast", config=SMALL, total_env_steps=14 * UPDATE, on_metrics=rows.extend, on_checkpoint=on_checkpoint
    )
    assert rows == run.rows and len(rows) == 14
    assert steps == [6, 12, 14]


def test_training_stops_when_the_callback_has_seen_enough_and_can_go_on_later():
    small = SMALL | {"total_env_steps": 9 * UPDATE}
    enough = lambda rows: rows[-1]["update"] >= 6  # noqa: E731
    run = mjxppo.train_policy("brax:fast", config=small, on_metrics=enough, run_dir="run")
    assert run.outcome.updates == 6 and checkpoint.newest_whole_step(Path("run/ckpt")).name == "6"
    run = mjxppo.train_policy("brax:fast", run_dir="run", resume=True)
    assert [row["update"] for row in run.rows] == list(range(1, 10))
    whole = mjxppo.train_policy("brax:fast", config=small)
    for resumed, straight in zip(run.policy.layers, whole.policy.layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(resumed, straight, strict=True))


def test_it_works_beside_the_main_thread():
    done = []
    train = lambda: done.append(mjxppo.train_policy("brax:fast", config=SMALL, total_env_steps=UPDATE))  # noqa: E731
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert done[0].outcome.env_steps == UPDATE


def test_several_policies_come_as_a_list_each_with_what_is_its_own():
    runs = mjxppo.train_policies("brax:fast", config=SMALL, total_env_steps=2 * UPDATE, num_seeds=2, seed=5)
    assert [run.config.seed for run in runs] == [5, 6] and all(run.config.num_seeds == 1 for run in runs)
    assert [run.run_dir.name for run in runs] == ["seed-5", "seed-6"]
    assert [len(run.rows) for run in runs] == [2, 2] and runs[0].rows != runs[1].rows
    assert runs[0].outcome.new_env_steps == 4 * UPDATE
    obs = np.ones(runs[0].policy.obs_size)
    actions = [run.policy(obs) for run in runs]
    assert not np.allclose(*actions)
    np.testing.assert_allclose(mjxppo.load_policy(runs[1].run_dir)(obs), actions[1], rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"env": "hoper"}, "did you mean hopper"),
        ({"env": object()}, "has no reset"),
        ({"env": "hopper", "ppo": {"gama": 0.9}}, "did you mean ppo.gamma"),
        ({"env": "hopper", "total_steps": 5}, "total_steps: no such field"),
        ({"env": "hopper", "config": "missing.yaml"}, "no file missing.yaml"),
        ({"env": "hopper", "num_seeds": 3}, "train_policies trains several"),
        ({"env": "hopper", "resume": True}, "say which run"),
        ({"env": "hopper", "resume": True, "run_dir": "nowhere"}, "no file nowhere"),
        ({"env": "hopper", "run_dir": "full"}, "is not empty"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(working_directory, arguments, message):
    (working_directory / "full").mkdir()
    (working_directory / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=message) as error:
        mjxppo.train_policy(**arguments)
    assert "\n" not in str(error.value)
    assert {path.name for path in working_directory.rglob("*")} <= {"full", "thesis.txt", ".lock"}


@pytest.fixture
def untrained(monkeypatch):
    """``train_policy`` up to training, and after it."""
    outcome = loop.Outcome(1, 1, 1, None, 0.0, 0.0, 0)
    monkeypatch.setattr(loop, "train", lambda *args: outcome)
    monkeypatch.setattr(trained, "load_all", lambda path: [SimpleNamespace(policy=None)])


def test_the_configuration_says_which_environment_was_handed_in(untrained):
    backend = "planar" if compiler_aborts() else "mjx"  # not what "auto" is recorded as, in either case
    env = envs.make("hopper", backend=backend, ctrl_cost_weight=0.1, healthy_z_range=(0.5, 2.0))
    run = mjxppo.train_policy(env, run_dir="run")
    assert run.config.env_options == {"ctrl_cost_weight": 0.1, "healthy_z_range": [0.5, 2.0]}
    assert run.config.physics.backend == backend and run.env is env
    again = mjxppo.train_policy("hopper", config="run/config.yaml", run_dir="again")
    assert again.config == run.config and again.env.task.options.ctrl_cost_weight == 0.1
    with pytest.raises(UserError, match="env_options: the environment that is handed in has its own"):
        mjxppo.train_policy(env, env_options={"ctrl_cost_weight": 0.2})
    with pytest.raises(UserError, match="Mine is named as the task 'hopper' is; give it a name of its own"):
        mjxppo.train_policy(type("Mine", (Hopper,), {})(env.task.options))


def test_evaluation_is_on_the_task_itself_without_what_is_randomised(untrained):
    run = mjxppo.train_policy("brax:fast", config=SMALL, randomize={"observation_noise": 1.0})
    assert type(run.env.task) is BraxTask


def test_a_run_that_will_not_fit_or_fails_does_what_it_does_on_the_command_line(monkeypatch):
    dumps = []

    def fail(*args):
        raise loop.TrainingFailed("too many", nonfinite=(3, 0))

    monkeypatch.setattr(loop, "train", fail)
    monkeypatch.setattr(failure, "write_dump", lambda config, path, *what: dumps.append(what) or path / "failure")
    for env in ("brax:fast", PointMass()):  # a name is needed to build it again
        with pytest.raises(loop.TrainingFailed):
            mjxppo.train_policy(env, config=SMALL)
    assert dumps == [(3, 0)]
    monkeypatch.setattr(memory, "available_on_host", lambda: 1.0)
    with pytest.raises(UserError, match="of host memory"):
        mjxppo.train_policy("brax:fast", config=SMALL, run_dir="unwritten")
    assert not Path("unwritten").exists()


def test_what_changes_the_run_is_refused_when_it_is_resumed():
    mjxppo.train_policy("brax:fast", config=SMALL, total_env_steps=UPDATE, run_dir="run")
    with pytest.raises(UserError, match=r"ppo.gamma: cannot change"):
        mjxppo.train_policy("brax:fast", run_dir="run", resume=True, ppo={"gamma": 0.5})
    with pytest.raises(UserError, match="env: cannot change"):
        mjxppo.train_policy(PointMass(), run_dir="run", resume=True)


def test_an_npz_acts_where_there_is_no_jax(tmp_path):
    run = mjxppo.train_policy("brax:fast", config=SMALL, total_env_steps=UPDATE)
    run.export("policy.npz")
    blocked = "import sys; sys.modules.update(dict.fromkeys(('jax', 'jaxlib', 'flax', 'orbax', 'mujoco', 'brax')));"
    code = "import mjxppo, numpy as np; policy = mjxppo.load_policy('policy.npz');"
    code += "print(*policy(np.ones((3, policy.obs_size))).ravel())"
    done = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True)
    assert done.stderr == ""
    expected = run.policy(np.ones((3, run.policy.obs_size))).ravel()
    np.testing.assert_allclose([float(x) for x in done.stdout.split()], expected, rtol=1e-6)


def test_the_environment_itself_is_given_back():
    env = envs.make(PointMass())
    assert envs.make(env) is env
