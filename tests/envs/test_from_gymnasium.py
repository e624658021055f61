"""Gymnasium's environments on the host: the same numbers as by hand, exact budgets, resuming, learning, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjxppo
from mjxppo import cli, envs
from mjxppo.config.schema import Config, LogConfig, PolicyConfig, PpoConfig
from mjxppo.envs.batch import split_each
from mjxppo.envs.foreign.adapted import make_one
from mjxppo.errors import UserError
from mjxppo.policy import evaluate
from mjxppo.ppo import counters
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run import checkpoint
from mjxppo.run.arrays import named_arrays

pytestmark = pytest.mark.usefixtures("compiled_quickly")

PPO = {"num_envs": 4, "block_size": 4, "rollout_length": 16, "num_minibatches": 4, "num_epochs": 4}
UPDATE = 4 * 16


class Chase(gymnasium.Env):
    """A point is to be moved to the origin; the reward is minus its distance. Actions are in [0, 4], 2 stands still."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(0.0, 4.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        return self._obs(), {}

    def _obs(self):
        return np.array([self.x, 100 * self.x + 50], np.float32)

    def step(self, action):
        self.x += 0.1 * (float(action[0]) - 2)
        return self._obs(), -abs(self.x), abs(self.x) > 3, False, {}


gymnasium.register("Chase-v0", Chase, max_episode_steps=20)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seeds_of(keys):
    """The seeds that episodes begun with these keys have, and the worlds' keys after."""
    keys, reset_keys = split_each(keys)
    return keys, [int(jax.random.bits(key, (), jnp.uint32)) for key in reset_keys]


def test_it_is_what_stepping_gymnasium_by_hand_gives():
    count, options = 3, {"max_episode_steps": 12, "ctrl_cost_weight": 0.1}
    env = envs.make("gymnasium:Hopper-v5", **options)
    by_hand = [gymnasium.make("Hopper-v5", **options) for _ in range(count)]
    keys = jax.random.split(jax.random.key(3), count)
    state, step = jax.jit(env.reset)(keys), jax.jit(env.step)
    keys, seeds = seeds_of(keys)
    obs = np.array([one.reset(seed=seed)[0] for one, seed in zip(by_hand, seeds, strict=True)])
    np.testing.assert_array_equal(state.obs, obs.astype(np.float32))
    rng, ends, returns = np.random.default_rng(0), set(), np.zeros(count)
    for _ in range(60):
        action = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
        action[2] = 0
        state = step(state, action)
        obs, reward, terminated, truncated, _ = (
            np.array(said) for said in zip(*(one.step(a) for one, a in zip(by_hand, action, strict=True)), strict=True)
        )
        truncated &= ~terminated
        np.testing.assert_array_equal(state.final_obs, obs.astype(np.float32))
        np.testing.assert_array_equal(state.reward, reward.astype(np.float32))
        np.testing.assert_array_equal(state.terminated, terminated)
        np.testing.assert_array_equal(state.truncated, truncated)
        returns += reward
        np.testing.assert_allclose(state.episode_return, returns, rtol=1e-5)
        done = terminated | truncated
        next_keys, seeds = seeds_of(keys)
        for i in np.flatnonzero(done):
            obs[i], _ = by_hand[i].reset(seed=seeds[i])
        keys = jnp.where(done, next_keys, keys)
        returns[done] = 0
        np.testing.assert_array_equal(state.obs, obs.astype(np.float32))
        ends |= {"terminated"} if terminated.any() else set()
        ends |= {"truncated"} if truncated.any() else set()
    assert ends == {"terminated", "truncated"}


def test_actions_are_scaled_to_the_environments_own():
    env, by_hand = envs.make("gymnasium:Pendulum-v1"), gymnasium.make("Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), 1)
    state = env.reset(keys)
    by_hand.reset(seed=seeds_of(keys)[1][0])
    for action in (-1.0, 0.25, 1.0):
        state = env.step(state, jnp.array([[action]]))
        np.testing.assert_allclose(state.obs[0], by_hand.step(np.array([2 * action], np.float32))[0], rtol=1e-6)


def test_a_state_that_is_not_what_the_worlds_are_in_is_noticed():
    env = envs.make("gymnasium:Chase-v0")
    state = env.reset(jax.random.split(jax.random.key(0), 2))
    env.step(state, jnp.zeros((2, 1)))
    with pytest.raises(Exception, match="the worlds on the host have taken 1 steps"):
        jax.block_until_ready(env.step(state, jnp.zeros((2, 1))))


def make(total, num_seeds=1, seed=0):
    config = Config(
        env="gymnasium:Chase-v0",
        seed=seed,
        num_seeds=num_seeds,
        total_env_steps=total,
        policy=PolicyConfig(hidden_sizes=(8,)),
        ppo=PpoConfig(**PPO),
        log=LogConfig(every_updates=3),
    )
    return TrainingProgram(envs.make(config.env), config)


def trained(total, **options):
    program = make(total, **options)
    state, budget = program.init(), program.budget(total)
    for _ in range(2):
        state, _ = program.train_chunk(state, budget)
    return program, state


def test_not_a_step_beyond_the_budget_is_taken_on_the_host():
    program, state = trained(5 * UPDATE + 4 * 7)
    assert counters.to_int(state.env_steps) == 5 * UPDATE + 4 * 7
    assert program.env.task._vector_envs._steps_taken == [5 * 16 + 7]


def test_seeds_have_worlds_of_their_own_and_are_what_they_are_alone():
    together, alone = (named_arrays(trained(2 * UPDATE, **o)[1]) for o in ({"num_seeds": 2}, {"seed": 1}))
    for name, values in alone.items():
        if not name.endswith("worlds/vector_env"):
            np.testing.assert_array_equal(together[name][1], values, err_msg=name)
    assert not np.array_equal(together["env_state/obs"][0], together["env_state/obs"][1])


SMALL = {"ppo": PPO, "log": {"tensorboard": False, "every_updates": 2}, "checkpoint": {"every_updates": 2}}


@pytest.mark.parametrize("num_seeds", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_a_resumed_run_keeps_what_was_learnt_and_begins_new_episodes(capsys, num_seeds):
    # Several policies are evaluated in processes of their own, which know nothing of what is registered here.
    episodes = "3" if num_seeds == 1 else "0"
    options = ["--env", "gymnasium:Chase-v0", "--num-seeds", str(num_seeds), "--eval.episodes", episodes]
    options += ["--eval.no-video"]
    options += [f"--ppo.{name.replace('_', '-')}={value}" for name, value in PPO.items()]
    assert cli.main(["train", *options, "--run-dir", "run", "--total-env-steps", str(4 * UPDATE)]) == 0
    before, _ = checkpoint.read(Path("run/ckpt/4"))
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--run-dir", "run", "--total-env-steps", str(6 * UPDATE + 4)]) == 0
    printed = capsys.readouterr()
    assert "the worlds of gymnasium:Chase-v0 cannot be restored: new episodes begin" in printed.err
    assert json.loads(printed.out)["env_steps"] == 6 * UPDATE + 4
    after, _ = checkpoint.read(Path("run/ckpt/7"))
    assert (after["env_state/worlds/steps_taken"] == 2 * 16 + 1).all()
    assert not np.array_equal(before["env_state/key"], after["env_state/key"]), "new episodes are other ones"


class Falters(Chase):
    """Breaks down in its 80th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 80:
            raise RuntimeError("motor 3 is hot")
        return super().step(action)


gymnasium.register("Falters-v0", Falters, max_episode_steps=20)


def test_an_environment_that_breaks_down_ends_the_run_at_its_last_checkpoint(capfd):
    options = ["--env", "gymnasium:Falters-v0", "--log.every-updates", "2", "--checkpoint.every-updates", "2"]
    options += [f"--ppo.{name.replace('_', '-')}={value}" for name, value in PPO.items()]
    assert cli.main(["train", *options, "--run-dir", "run", "--total-env-steps", str(9 * UPDATE)]) == 1
    said = "gymnasium:Falters-v0 failed on the host: RuntimeError: motor 3 is hot; the last good checkpoint is step 4"
    assert said in capfd.readouterr().err
    checkpoint.verify(Path("run/ckpt/4"))


def test_it_learns():
    ppo = PPO | {"rollout_length": 64, "learning_rate": 3e-3, "num_epochs": 8}
    run = mjxppo.train_policy("gymnasium:Chase-v0", config=SMALL, ppo=ppo, total_env_steps=30 * 256, run_dir="run")
    # Standing still costs 0.5 a step; the way to the origin takes 2.5 steps on average.
    result = run.evaluate(episodes=20)
    assert result["engine"] == "gymnasium" and result["env"] == "gymnasium:Chase-v0"
    assert result["mean"] > -2.5 > -0.5 * 20


@pytest.mark.exhaustive
def test_cartpole_is_solved_on_the_host():
    ppo = {"num_envs": 8, "block_size": 8, "rollout_length": 128, "num_minibatches": 16, "num_epochs": 8}
    ppo |= {"gamma": 0.98, "gae_lambda": 0.9, "learning_rate": 3e-3}
    config = SMALL | {"ppo": ppo, "policy": {"hidden_sizes": [32, 32]}}
    run = mjxppo.train_policy("gymnasium:CartPole-v1", config=config, total_env_steps=64 * 1024, run_dir="run")
    assert run.evaluate(episodes=5)["min"] >= 475


def test_the_model_is_changed_in_training_and_in_evaluation():
    options = {"perturb": {"mass": 1.5, "friction": 0.5}}
    nominal = gymnasium.make("Hopper-v5").unwrapped.model
    env = envs.make("gymnasium:Hopper-v5", **options)
    env.reset(jax.random.split(jax.random.key(0), 2))
    trained_in = [one.unwrapped.model for one in env.task._vector_envs._envs[0].envs]
    tested_in = evaluate.make_gymnasium_env(Config(env="gymnasium:Hopper-v5", env_options=options)).unwrapped.model
    for model in (*trained_in, tested_in):
        np.testing.assert_allclose(model.body_mass, 1.5 * nominal.body_mass)
        np.testing.assert_allclose(model.geom_friction, 0.5 * nominal.geom_friction)
        assert (model.body_invweight0[1:, 0] < 0.75 * nominal.body_invweight0[1:, 0]).all(), "what follows from it too"


def test_worlds_may_have_processes_of_their_own():
    actions = jnp.full((2, 1), 0.5)
    results = []
    for mode in ("sync", "async"):
        env = envs.make("gymnasium:Pendulum-v1", vectorization_mode=mode)
        state = env.step(env.reset(jax.random.split(jax.random.key(0), 2)), actions)
        results.append(np.asarray(state.obs))
        env.task._vector_envs._envs[0].close()
    np.testing.assert_array_equal(*results)


@pytest.mark.exhaustive
def test_a_terminals_ctrl_c_leaves_their_processes_to_finish(tmp_path):
    command = [sys.executable, "-m", "mjxppo", "train", "--env", "gymnasium:Pendulum-v1", "--run-dir", "run"]
    command += ["--env-options.vectorization-mode", "async", "--ppo.num-envs", "2", "--ppo.block-size", "2"]
    command += ["--ppo.rollout-length", "16", "--ppo.num-minibatches", "4", "--total-env-steps", "1000000"]
    # A session of its own, as a terminal's job has a group of its own: the signal reaches every process in it.
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not (tmp_path / "run/metrics.jsonl").is_file() or not (tmp_path / "run/metrics.jsonl").read_text():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        err = process.communicate(timeout=100)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err and "--resume" in err, err
    assert checkpoint.newest_whole_step(tmp_path / "run/ckpt") is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"env": "gymnasium:Hoper-v5"}, "env: gymnasium:Hoper-v5: Environment `Hoper` doesn't exist"),
        ({"env": "gymnasium:no_such_module:X-v0"}, "env: gymnasium:no_such_module:X-v0: No module named"),
        ({"env_options": {"mass": 2}}, "env_options: gymnasium:Chase-v0 does not take these options"),
        ({"env_options": {"perturb": {"mass": 2.0}}}, "env_options.perturb: gymnasium:Chase-v0 is no MuJoCo"),
        ({"env_options": {"perturb": {"weight": 2}}}, "env_options.perturb: 'weight' is none of mass, inertia"),
        ({"env_options": {"perturb": {"mass": -1}}}, "env_options.perturb.mass: must be a positive factor, not -1"),
        ({"env_options": {"perturb": 0.5}}, "env_options.perturb: must be a mapping such as"),
        ({"env_options": {"vectorization_mode": "fast"}}, "env_options.vectorization_mode: must be sync or async"),
        ({"num_devices": 2, "ppo": {"block_size": 2}}, "num_devices: gymnasium:Chase-v0 is simulated on the host"),
        ({"total_env_steps": 255}, "total_env_steps: must be a multiple of ppo.num_envs = 4 for .*; 256 would do"),
        ({"randomize": {"observation_noise": 0.1}}, "randomize: gymnasium:Chase-v0 is simulated on the host"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, message):
    values = {"total_env_steps": 256, **SMALL, **fields, "ppo": PPO | fields.get("ppo", {})}
    with pytest.raises(UserError, match=message) as error:
        mjxppo.train_policy(values.pop("env", "gymnasium:Chase-v0"), config=values, run_dir="run")
    assert "\n" not in str(error.value) and not Path("run").exists()


def test_actions_without_bounds_are_refused():
    space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    gymnasium.register("Boundless-v0", lambda: gymnasium.wrappers.TransformAction(Chase(), lambda a: a, space))
    with pytest.raises(UserError, match="the actions of gymnasium:Boundless-v0 have no bounds"):
        make_one("Boundless-v0", {})


class OwnActions(gymnasium.Env):
    """An environment whose actions have the bounds and the type that are asked for."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, low, high, dtype):
        self.action_space = gymnasium.spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "message"),
    [
        ([0, 0], [10, 10], np.int64, "are of int64, and a policy's are not whole numbers"),
        ([0.0, 1.0], [2.0, 1.0], np.float32, "component 1 of the actions of .* has equal bounds"),
        ([0.0, -np.inf], [2.0, 1.0], np.float32, "have no bounds to scale"),
        ([0.0, 0.0], [np.inf, 1.0], np.float32, "have no bounds to scale"),
    ],
)
def test_actions_that_cannot_be_scaled_are_refused_in_one_line(low, high, dtype, message):
    gymnasium.register("OwnActions-v0", OwnActions, kwargs={"low": low, "high": high, "dtype": dtype})
    try:
        with pytest.raises(UserError, match=message) as refused:
            envs.make("gymnasium:OwnActions-v0")
        assert "\n" not in str(refused.value)
    finally:
        del gymnasium.registry["OwnActions-v0"]


def test_a_script_without_a_guard_is_refused_worlds_in_processes(tmp_path):
    script = tmp_path / "mine.py"
    options = 'env_options={"vectorization_mode": "async"}'
    script.write_text(f'import mjxppo\nmjxppo.train_policy("gymnasium:Pendulum-v1", {options})\n')
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "UserError: env_options.vectorization_mode: async starts" in done.stderr
    assert done.stderr.count("Traceback") == 1 and not (tmp_path / "runs").exists()


class Odd(Chase):
    """``Chase``, one result of which is of the form or the size that is asked for."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, what, value):
        self.what, self.value = what, value

    def _obs(self):
        obs = super()._obs().astype(float)
        return self.value(obs) if self.what == "obs" else obs

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        reward, terminated = (
            self.value(x) if self.what == name else x for name, x in (("reward", reward), ("terminated", terminated))
        )
        return obs, reward, terminated, truncated, info


@pytest.fixture
def odd(request):
    what, value = request.param
    gymnasium.register("Odd-v0", lambda: Odd(what, value), max_episode_steps=20)
    yield "gymnasium:Odd-v0"
    del gymnasium.registry["Odd-v0"]


SAME = {
    "reward-[1]": ("reward", lambda x: np.array([x])),
    "reward-[]": ("reward", np.array),
    "reward-float64": ("reward", np.float64),
    "ends-int": ("terminated", int),
    "ends-bool_": ("terminated", np.bool_),
    "ends-[1]": ("terminated", lambda x: np.array([x])),
}


@pytest.mark.parametrize("odd", SAME.values(), ids=SAME, indirect=True)
def test_results_of_other_forms_are_the_same_numbers(odd):
    keys, rewards = jax.random.split(jax.random.key(0), 3), []
    for name in ("gymnasium:Chase-v0", odd):
        env = envs.make(name)
        state, step = jax.jit(env.reset)(keys), jax.jit(env.step)
        for _ in range(5):
            state = step(state, jnp.full((3, 1), 0.5))
            rewards.append(state.reward)
    np.testing.assert_array_equal(rewards[:5], rewards[5:])


REFUSED = {
    "reward": (("reward", lambda x: np.array([x, x])), r"the reward of gymnasium:Odd-v0 has shape \[2\]"),
    "terminated": (("terminated", lambda x: np.zeros(0)), r"the terminated of gymnasium:Odd-v0 has shape \[0\]"),
    "obs": (("obs", lambda x: x[:, None]), r"the observation of gymnasium:Odd-v0 after reset is \[2, 1\]"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("odd", "message"), REFUSED.values(), ids=REFUSED, indirect=["odd"])
def test_results_of_a_wrong_shape_are_refused_by_name(odd, message):
    with pytest.raises(UserError, match=message) as refused:
        envs.make(odd)
    assert "\n" not in str(refused.value)


HUGE = {"1e30": 1e30, "1e300": -1e300, "inf": np.inf}


@pytest.mark.parametrize("odd", [("obs", lambda x, y=y: x * [1, y]) for y in HUGE.values()], ids=HUGE, indirect=True)
def test_observations_of_any_size_are_bounded_and_counted(odd):
    one = make_one("Odd-v0", {})
    assert abs(one.reset(seed=0)[0]).max() == 1e10, "in evaluation, too"
    run = mjxppo.train_policy(odd, ppo=PPO, evaluate=False, total_env_steps=2 * UPDATE, run_dir="run")
    last = run.metrics[-1]
    assert last["obs_bounded"] == 1 and last["nonfinite_steps"] == 0 and last["gradient_steps"] == 16
    assert np.isfinite(run.policy(np.array([[0.5, 1e10]]))).all()
