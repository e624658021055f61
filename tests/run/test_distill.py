"""Distillation: what the teacher sees and when it acts, what the student learns, resume, devices, and bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Crosswind

import mjxppo
from mjxppo import cli
from mjxppo.config.check import make_config
from mjxppo.config.randomize import RandomizeConfig
from mjxppo.config.schema import DistillConfig, InitConfig, PolicyConfig
from mjxppo.config.values import from_dict, merge, read_yaml
from mjxppo.envs import Environment
from mjxppo.envs.build import environment
from mjxppo.envs.observed import ObservedTask
from mjxppo.envs.randomize.task import RandomizedTask
from mjxppo.errors import UserError
from mjxppo.ppo import networks, normalize, reference, schedules
from mjxppo.ppo.rollout import BehaviorPolicy, draw_action, draw_noise
from mjxppo.run import checkpoint, distill, load, start
from mjxppo.run.arrays import named_arrays
from mjxppo.run.metrics import read_rows

TIMES = ("time_s", "env_steps_per_s")
UPDATE = 64 * 8
SMALL = {
    "env_options": {},
    "num_devices": 2,
    "policy": {"hidden_sizes": [32], "privileged": "both", "std": "state_independent", "min_log_std": -1.5},
    "ppo": {
        "num_envs": 64,
        "block_size": 16,
        "rollout_length": 8,
        "num_minibatches": 4,
        "num_epochs": 4,
        "learning_rate": 1e-2,
        "gamma": 0.9,
    },
    "log": {"every_updates": 5, "tensorboard": False},
}
EPISODES = {"episodes": 200, "seed": 5}


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The run directory of a teacher that sees the wind."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    mjxppo.train_policy(Crosswind(), config=SMALL, total_env_steps=150 * UPDATE, run_dir=path)
    return path


def student(teacher, run_dir="student", updates=60, resume=False, **changes):
    values = merge({"distill": {"teacher": str(teacher)}, "policy": {"history": 2}}, changes)
    given = {} if resume else values
    options = {"on_metrics": given.pop("on_metrics", None)} if "on_metrics" in given else {}
    return mjxppo.train_policy(
        Crosswind(), run_dir=run_dir, resume=resume, total_env_steps=updates * UPDATE, **given, **options
    )


def return_as_trained(run_dir):
    """Mean return of a run's policy, without noise, in the worlds that it was trained in."""
    from mjxppo.policy.evaluate import device_episodes

    loaded = load.load(run_dir)
    policy, env = loaded.policy, environment(loaded.config, Crosswind())
    episodes = device_episodes(lambda obs: policy.of_inputs(obs[:, : policy.inputs]), env, 200, seed=5)
    return episodes.returns.mean()


def logged(run_dir):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(run_dir)]


def final(run_dir):
    return checkpoint.read(checkpoint.newest_whole_step(run_dir / "ckpt"))[0]


@pytest.mark.parametrize("privileged", ["none", "both"])
def test_the_teacher_sees_in_the_students_worlds_what_it_saw_in_its_own(privileged):
    noisy = RandomizedTask(Crosswind(max_episode_steps=4), RandomizeConfig(observation_noise=0.1))
    own = Environment(ObservedTask(noisy, 2, privileged == "both"))
    students = Environment(ObservedTask(noisy, 4, True))
    config = from_dict(
        {
            "env": "crosswind",
            "policy": {"history": 4},
            "distill": {"policy": {"history": 2, "privileged": privileged}},
        }
    )
    keys = jax.random.split(jax.random.key(0), 5)
    a, b = own.reset(keys), students.reset(keys)
    for t in range(6):
        np.testing.assert_array_equal(reference.teacher_obs(students, config, b.obs), a.obs)
        action = jax.random.uniform(jax.random.key(t), (5, 2), minval=-1, maxval=1)
        a, b = own.step(a, action), students.step(b, action)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_teacher_acts_in_its_share_of_steps_and_densities_are_the_students(share):
    network = networks.build(
        2, PolicyConfig(hidden_sizes=(8,), std="state_independent", init_log_std=-2.0, min_log_std=-3.0)
    )
    params = networks.init_params(network, 3, jax.random.key(0))
    policy = BehaviorPolicy(network, params, normalize.initial_moments((3,)), jnp.float32(share))
    obs, indices = jnp.ones((500, 3)), jnp.arange(500)
    teacher = jnp.full((500, 2), 4.0), jnp.full((500, 2), -2.0)
    noise = draw_noise(policy, jax.random.key(1), indices)
    u, log_prob = draw_action(policy, obs, noise, teacher)
    taught = np.asarray(u > 2)
    assert (taught[:, 0] == taught[:, 1]).all() and taught[:, 0].mean() == pytest.approx(share, abs=0.06)
    alone, own_log_prob = draw_action(
        policy, obs, draw_noise(policy._replace(teacher_share=None), jax.random.key(1), indices)
    )
    mine = ~taught[:, 0]
    np.testing.assert_array_equal(np.asarray(u)[mine], np.asarray(alone)[mine])
    np.testing.assert_array_equal(np.asarray(log_prob)[mine], np.asarray(own_log_prob)[mine])
    assert (np.asarray(log_prob)[~mine] < -100).all(), "the student would hardly have done that"


def test_the_share_falls_linearly_and_stays():
    config = DistillConfig(share=0.8, final_share=0.2, until=0.5)
    shares = [float(schedules.teacher_share(config, progress)) for progress in (0.0, 0.25, 0.5, 0.9)]
    np.testing.assert_allclose(shares, [0.8, 0.5, 0.2, 0.2], atol=1e-6)
    at_once = DistillConfig(share=1.0, final_share=0.0, until=0.0)
    assert float(schedules.teacher_share(at_once, 0.01)) == 0


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_a_student_that_remembers_reaches_the_teacher_and_one_that_does_not_cannot(teacher):
    run = student(teacher)
    rows = read_rows(run.run_dir)
    losses = [row["policy_loss"] for row in rows]
    assert losses[0] > 1 and np.mean(losses[-5:]) < 0.1 * losses[0]
    assert [rows[i]["teacher_share"] for i in (0, 15, 40)] == pytest.approx([1.0, 0.5, 0.0], abs=0.04)
    teachers, students = return_as_trained(teacher), return_as_trained(run.run_dir)
    forgetful = return_as_trained(student(teacher, "forgetful", policy={"history": 1}).run_dir)
    gap, closed = teachers - forgetful, students - forgetful
    assert gap > abs(teachers) / 3 and closed > 0.9 * gap, (teachers, students, forgetful)
    assert run.policy.obs_size == 3 and not run.policy.privileged
    assert run.evaluate(**EPISODES)["mean"] == pytest.approx(students, rel=0.1), "alone, with its own memory"


@pytest.mark.usefixtures("compiled_quickly")
def test_behaviour_cloning_learns_from_what_the_teacher_does_alone(teacher):
    run = student(teacher, updates=20, distill={"final_share": 1.0})
    rows = read_rows(run.run_dir)
    assert {row["teacher_share"] for row in rows} == {1.0}
    assert rows[-1]["policy_loss"] < 0.3 * rows[0]["policy_loss"]
    # The teacher acts from the first update on, so the training's returns are its own.
    own = np.mean([row["episode_return"] for row in read_rows(teacher)[-10:]])
    returns = [row["episode_return"] for row in rows if row["episode_return"] is not None]
    assert np.mean(returns[-5:]) == pytest.approx(own, rel=0.3)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_resumed_student_ends_with_the_same_bits_though_its_teacher_is_gone(teacher, tmp_path):
    shutil.copytree(teacher, tmp_path / "teacher")
    whole = student(tmp_path / "teacher", "whole", updates=20).run_dir
    student(tmp_path / "teacher", "halves", updates=20, on_metrics=lambda rows: rows[-1]["update"] >= 10)
    shutil.rmtree(tmp_path / "teacher")
    halves = student(None, "halves", updates=20, resume=True).run_dir
    a, b = final(whole), final(halves)
    assert a.keys() == b.keys() and "learner/teacher/policy/params/params/actor/mlp/head/kernel" in a
    assert not [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert logged(whole) == logged(halves)


@pytest.mark.exhaustive
def test_two_devices_distil_alike_and_seeds_side_by_side(teacher):
    config = merge(
        distill.student_defaults(distill.load_teacher(str(teacher))),
        {"policy": {"history": 2}, "log": {"every_updates": 1}},
    )
    states = {}
    for changes in ({"num_devices": 1}, {"num_devices": 2}, {"num_devices": 2, "num_seeds": 2}):
        program = start.build(make_config(merge(config, changes)), Crosswind())
        state = distill.add_teacher(program, program.init())
        state, _ = program.train_chunk(state, program.budget(10 * UPDATE))
        states[tuple(changes.values())] = named_arrays(state)
    one, two, seeds = states.values()
    for name in one:
        if name.startswith("env_state"):
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        elif name.startswith("learner"):
            np.testing.assert_allclose(one[name], two[name], rtol=2e-3, atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(two[name], seeds[name][0], err_msg=name)


@pytest.mark.usefixtures("compiled_quickly")
class TestCommandLine:
    ENV = ("--env", "brax:fast", "--set-from", "noise.yaml")
    FEW = ("--total-env-steps", "2000", "--eval.episodes", "2", "--log.no-tensorboard")
    SIZES = (
        *("--ppo.num-envs", "32", "--ppo.block-size", "16", "--ppo.rollout-length", "8", "--ppo.num-minibatches", "2"),
        *("--policy.hidden-sizes", "8", "--log.every-updates", "4"),
    )

    def test_from_a_teacher_to_a_policy_that_acts_alone(self, tmp_path, capsys):
        (tmp_path / "noise.yaml").write_text("randomize: {observation_noise: 0.1, max_action_delay: 1}")
        teacher = (*self.ENV, *self.SIZES, *self.FEW, "--policy.privileged", "both", "--run-dir", "teacher")
        assert cli.main(["train", *teacher]) == 0
        assert json.loads(capsys.readouterr().out)["eval"]["episodes"] == 2, "in the worlds of its training"

        assert cli.main(["distill", "teacher", "--policy.history", "3", "--run-dir", "student", *self.FEW]) == 0
        assert "imitating " in capsys.readouterr().err
        config = from_dict(read_yaml(tmp_path / "student/config.yaml"))
        assert config.distill.teacher == str(checkpoint.newest_whole_step(tmp_path.resolve() / "teacher/ckpt"))
        assert (config.policy.privileged, config.policy.history, config.randomize.max_action_delay) == ("critic", 3, 1)
        assert config.ppo.num_envs == 32 and config.distill.policy.hidden_sizes == (8,)

        more = ["train", "--resume", "--run-dir", "student", "--total-env-steps", "3000"]
        assert cli.main(more) == 0
        capsys.readouterr()
        for command in (
            ["evaluate", "student", "--engine", "own", "--episodes", "2"],
            ["evaluate", "teacher", "--engine", "own", "--episodes", "2", "--as-trained"],
            ["export", "student"],
        ):
            assert cli.main(command) == 0
            result = json.loads(capsys.readouterr().out)
        assert result["history"] == 3 and result["obs_size"] == 2

        for arguments, message in (
            (["evaluate", "teacher", "--engine", "own"], "observes what only the simulation knows"),
            (["export", "teacher"], "mjxppo distill trains one that does not"),
            (["evaluate", "teacher", "--as-trained"], "as_trained: needs --engine own, planar, spatial or mjx"),
            (["distill", "teacher", "--env", "hopper"], "was trained on brax:fast, not on hopper"),
            (["distill", "student", "--policy.history", "2"], "policy.history: must be at least the teacher's 3"),
            (["distill", "missing"], "distill.teacher: missing: there is no such directory"),
            (["distill", "--policy.history", "2"], "name the teacher first"),
            (["distill", "teacher", "--resume"], "goes on with mjxppo train --resume"),
            (["distill", "teacher", "--set-from", "more.yaml"], "randomize: what varies must be what the teacher"),
            (["train", *self.ENV, "--ppo.loss", "imitation"], "ppo.loss: input should be 'clip', 'kl_penalty' or"),
            (["distill", "teacher", "--ppo.learning-rate-schedule", "adaptive_kl"], "must be constant or linear"),
            (["distill", "teacher", "--init.path", "student"], "init.path: a student starts from new parameters"),
        ):
            (tmp_path / "more.yaml").write_text("randomize: {drop_action: 0.1}")
            assert cli.main(arguments) == 2, arguments
            printed = capsys.readouterr()
            assert message in printed.err and len(printed.err.strip().splitlines()) == 1, printed.err


def test_what_a_fine_tuned_teacher_began_with_is_not_the_students(teacher):
    loaded = distill.load_teacher(str(teacher))
    tuned = replace(loaded.config, init=InitConfig(path="gone", anchor_coef=1.0))
    config = make_config(distill.student_defaults(loaded._replace(config=tuned)))
    assert config.init == InitConfig() and config.distill.policy == loaded.config.policy


@pytest.mark.usefixtures("compiled_quickly")
def test_a_student_is_fine_tuned_by_rewards(teacher):
    path = student(teacher, updates=2).run_dir
    tuned = mjxppo.train_policy(
        Crosswind(),
        config={"log": SMALL["log"], "ppo": SMALL["ppo"]},
        init={"path": str(path), "anchor_coef": 0.1},
        run_dir="tuned",
        total_env_steps=2 * UPDATE,
    )
    rows = read_rows(tuned.run_dir)
    assert rows[0]["reference_kl"] < 0.1 and rows[-1]["reference_kl"] > 0 and "teacher_share" not in rows[0]


def test_a_teacher_of_another_shape_is_refused_by_name(teacher):
    with pytest.raises(UserError, match=r"distill.policy: is not that of .*mjxppo distill knows it"):
        student(teacher, distill={"policy": {"hidden_sizes": [16]}})
