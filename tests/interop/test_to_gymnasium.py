"""Our environments as Gymnasium's vector environments; Gymnasium's own SyncVectorEnv is the judge."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toy import PointMass

import mjxppo
import mjxppo.gymnasium  # registers the tasks
from mjxppo.envs import Environment
from mjxppo.envs.registry import TASKS
from mjxppo.errors import UserError
from mjxppo.interop.gymnasium import MjxVectorEnv, make_vec
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.messages import without_model_warnings

N = 6
MODES = list(AutoresetMode)


class Point(PointMass):
    """Says something of itself, as Gymnasium's environments do."""

    def initial(self, keys):
        return super().initial(keys) | {"length": jnp.zeros(len(keys))}

    def reset_info(self, worlds):
        return {"position": worlds["x"][:, 0]}

    def step_info(self, worlds, reward_terms):
        return super().step_info(worlds, reward_terms) | {"length": worlds["length"]}

    def advance(self, worlds, action):
        moved, terms, _ = super().advance(worlds, action)
        return moved | {"length": worlds["length"] + 1}, terms, moved["x"][:, 0] > 1.3


class OnePoint(gymnasium.Env):
    """The same task as an ordinary environment of Gymnasium, one world at a time, without any reset of its own."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self):
        self.env = Environment(Point(max_episode_steps=4))
        self._reset, self._advance = jax.jit(self.env.reset), jax.jit(self.env.advance)

    def reset(self, *, seed=None, options=None):
        key = jax.random.key(seed)[None] if seed is not None else self.next_key
        self.state = self._reset(key)
        # An episode that ends takes a key of its own for the next one, one that is broken off its world's.
        self.next_key = self.state.key
        return np.asarray(self.state.obs[0], np.float64), self._info(self.env.reset_info(self.state))

    def step(self, action):
        self.state = state = self._advance(self.state, action[None])
        info = self._info(self.env.step_info(state))
        obs = np.asarray(state.obs[0], np.float64)
        return obs, float(state.reward[0]), bool(state.terminated[0]), bool(state.truncated[0]), info

    def _info(self, info):
        return {name: float(value[0]) for name, value in info.items()}


def both(mode, n=N) -> tuple[MjxVectorEnv, SyncVectorEnv]:
    return MjxVectorEnv(Point(max_episode_steps=4), n, autoreset_mode=mode), SyncVectorEnv(
        [OnePoint] * n, autoreset_mode=mode
    )


def assert_same(ours, theirs, where=""):
    """The same structure, types and numbers."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            assert_same(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(theirs, tuple):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    elif theirs.dtype == object:
        assert ours.dtype == object and [x is None for x in ours] == [x is None for x in theirs], where
        for a, b in zip(ours, theirs, strict=True):
            if b is not None:
                assert_same(a, b, where)
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=where)


def actions(steps, n=N, seed=0):
    # Some worlds are pushed over the edge, which terminates them; the others reach the time limit.
    rng = np.random.default_rng(seed)
    drift = np.where(np.arange(n) % 3 == 0, 1.0, -0.5)[:, None]
    return [np.clip(drift + rng.uniform(-1, 1, (n, 2)), -1, 1).astype(np.float32) for _ in range(steps)]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_modes_are_gymnasiums_in_every_number(mode):
    ours, theirs = both(mode)
    assert_same(ours.reset(seed=7), theirs.reset(seed=7))
    ended = np.zeros(2, int)
    for action in actions(13):
        result = ours.step(action)
        assert_same(result, theirs.step(action))
        ended += result[2].sum(), result[3].sum()
    assert (ended > 0).all(), "both kinds of end have been seen"
    assert_same(ours.reset(seed=list(range(N))), theirs.reset(seed=list(range(N))))


def test_without_autoreset_the_caller_resets_by_mask():
    ours, theirs = both(AutoresetMode.DISABLED)
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    for t, action in enumerate(actions(11)):
        result = ours.step(action)
        assert_same(result, theirs.step(action))
        done = result[2] | result[3]
        if done.any():
            with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask"):
                ours.step(action)
            seeds = [100 * t + i for i in range(N)]
            options = {"reset_mask": done}
            assert_same(ours.reset(seed=seeds, options=dict(options)), theirs.reset(seed=seeds, options=options))


def test_a_reset_without_seeds_goes_on_where_the_worlds_random_numbers_are():
    ours, _ = both(AutoresetMode.NEXT_STEP)
    obs = [ours.reset(seed=5)[0], ours.reset()[0], ours.reset()[0]]
    assert not np.isclose(obs[0], obs[1]).any() and not np.isclose(obs[1], obs[2]).any()
    again = [ours.reset(seed=5)[0], ours.reset()[0], ours.reset()[0]]
    np.testing.assert_array_equal(obs, again)
    fresh = [both(AutoresetMode.NEXT_STEP)[0].reset()[0] for _ in range(2)]
    assert not np.isclose(fresh[0], fresh[1]).any(), "drawn from the system's random numbers"


def test_a_list_of_seeds_may_leave_worlds_out_and_large_seeds_are_told_apart():
    ours, _ = both(AutoresetMode.NEXT_STEP, 4)
    first = ours.reset(seed=[1, 2, 2**32 + 1, 2**64 - 1])[0]
    assert len(np.unique(first[:, 0])) == 4
    second = ours.reset(seed=[1, None, 2**32 + 1, None])[0]
    assert (first == second).all(axis=1).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "seed, options, error, message",
    [
        (-1, None, gymnasium.error.Error, "Seed"),
        ([-1] * N, None, gymnasium.error.Error, "from 0 to 2"),
        ([2**64] * N, None, gymnasium.error.Error, "from 0 to 2"),
        ([1, 2], None, ValueError, "2 seeds for 6 worlds"),
        (None, {"reset_mask": np.zeros(N, bool)}, ValueError, "at least one True"),
        (None, {"reset_mask": np.ones(N, int)}, ValueError, "bool"),
        (None, {"reset_mask": np.ones(N, bool)}, gymnasium.error.ResetNeeded, "first reset"),
    ],
)
def test_bad_seeds_and_masks_are_refused(seed, options, error, message):
    ours, _ = both(AutoresetMode.DISABLED)
    with pytest.raises(error, match=message):
        ours.reset(seed=seed, options=options)


def test_steps_before_a_reset_and_actions_of_another_shape_are_refused():
    ours, _ = both(AutoresetMode.NEXT_STEP)
    with pytest.raises(gymnasium.error.ResetNeeded):
        ours.step(np.zeros((N, 2)))
    ours.reset()
    with pytest.raises(ValueError, match=r"must be \[6, 2\], not \[6, 3\]"):
        ours.step(np.zeros((N, 3)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_envs": 0}, "num_envs"),
        ({"autoreset_mode": "Sometimes"}, "NextStep, SameStep, Disabled"),
        ({"arrays": "torch"}, "numpy or jax"),
        ({"dtype": np.int32}, "float64 or float32"),
        ({"render_mode": "human"}, "rgb_array or None"),
        ({"task": "brax:fast", "render_mode": "rgb_array"}, "only the tasks with a MuJoCo model"),
        ({"num_devices": 3, "num_envs": 4}, "divide num_envs = 4"),
        ({"ctrl_cost": 1.0}, "did you mean ctrl_cost_weight"),
    ],
)
def test_bad_options_are_refused_with_one_line_and_a_remedy(options, message):
    with pytest.raises(UserError, match=message) as error:
        make_vec(**{"task": "hopper", "num_envs": 4} | options)
    assert "\n" not in str(error.value)


def test_numbers_do_not_depend_on_the_number_of_devices():
    results = []
    for devices in (2, 4):
        env = MjxVectorEnv(Point(max_episode_steps=4), 16, num_devices=devices)
        env.reset(seed=0)
        results.append([env.step(action) for action in actions(9, 16)])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("mode", MODES)
def test_jax_arrays_hold_the_same_numbers_and_are_given_away_without_a_copy(mode):
    as_numpy = MjxVectorEnv(Point(max_episode_steps=4), N, autoreset_mode=mode)
    as_jax = MjxVectorEnv(Point(max_episode_steps=4), N, autoreset_mode=mode, arrays="jax", num_devices=1)
    as_numpy.reset(seed=1)
    obs, _ = as_jax.reset(seed=1)
    assert obs.dtype == as_jax.observation_space.dtype == np.float32
    for action in actions(4):
        there, here = as_jax.step(jnp.asarray(action)), as_numpy.step(action)
        for a, b in zip(there[:4], here[:4], strict=True):
            assert isinstance(a, jax.Array)
            np.testing.assert_allclose(a, b, rtol=1e-6)
        assert here[4].keys() <= there[4].keys()
    if mode is AutoresetMode.SAME_STEP:
        np.testing.assert_allclose(np.stack(list(here[4]["final_obs"])), there[4]["final_obs"], rtol=1e-6)
    obs = there[0]
    assert np.from_dlpack(obs).ctypes.data == np.asarray(obs).ctypes.data == obs.unsafe_buffer_pointer()


def test_float32_on_request():
    env = MjxVectorEnv(Point(), N, dtype="float32")
    obs = env.reset(seed=0)[0]
    assert obs.dtype == env.single_observation_space.dtype == np.float32 and env.observation_space.contains(obs)
    assert obs.flags.writeable and obs.flags.c_contiguous


class FirstWorld(gymnasium.Env):
    """A vector environment's only world, for Gymnasium's checker of ordinary environments."""

    def __init__(self, envs):
        self.envs = envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        obs, _ = self.envs.reset(seed=seed, options=options)
        return obs[0], {}

    def step(self, action):
        obs, reward, terminated, truncated, _ = self.envs.step(action[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


@pytest.mark.filterwarnings("ignore:.*not have a `spec`|.*Box observation space.*infinity|.*spec:UserWarning")
def test_gymnasiums_checker_passes():
    check_env(FirstWorld(MjxVectorEnv(Point(), 1)), skip_render_check=True)


def test_choices_are_taken_as_integers():
    ours, theirs = gymnasium.make_vec("mjxppo/CartPole-v1", num_envs=3), gymnasium.make_vec("CartPole-v1", num_envs=3)
    assert ours.reset(seed=0)[1].keys() == theirs.reset(seed=0)[1].keys()
    for _ in range(3):
        *out, infos = ours.step(ours.action_space.sample())
        assert [x.shape for x in out] == [(3, 4), (3,), (3,), (3,)] and infos.keys() == theirs.step(np.zeros(3, int))[
            4
        ].keys()
    with pytest.raises(ValueError, match=r"actions: must be \[3\], not \[3, 1\]"):
        ours.step(np.zeros((3, 1)))
    gridworld = gymnasium.make_vec("mjxppo/Gridworld-v0", num_envs=2)
    assert gridworld.single_action_space == gymnasium.spaces.Discrete(4) and gridworld.spec.max_episode_steps == 50


NEEDS_MJX = pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")
HUMANOID = {"humanoid": NEEDS_MJX, "humanoid_standup": [NEEDS_MJX, pytest.mark.exhaustive]}


class TestRegistered:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(entry.gym_id, marks=HUMANOID.get(name, ()))
            for name, entry in TASKS.items()
            if entry.in_gymnasium
        ],
    )
    def test_spaces_equal_gymnasiums_own(self, name):
        with without_model_warnings():
            theirs = gymnasium.make_vec(name, num_envs=3)
        ours = gymnasium.make_vec(f"mjxppo/{name}", num_envs=3)
        spaces = ["single_observation_space", "single_action_space", "observation_space", "action_space"]
        if name == "CartPole-v1":  # its own are float32, with bounds that episodes end within
            assert ours.single_observation_space.shape == theirs.single_observation_space.shape
            spaces = [space for space in spaces if "action" in space]
        if theirs.single_action_space.shape and np.any(theirs.single_action_space.high != 1):
            # -1 and 1 stand for the ends of its actuators' ranges.
            assert name in ("InvertedPendulum-v5", "Humanoid-v5", "HumanoidStandup-v5")
            assert ours.single_action_space == gymnasium.spaces.Box(-1, 1, theirs.single_action_space.shape, np.float32)
            spaces = [space for space in spaces if "action" not in space]
        for space in spaces:
            assert getattr(ours, space) == getattr(theirs, space)
        assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert ours.spec.id == f"mjxppo/{name}" and ours.spec.max_episode_steps == theirs.spec.max_episode_steps
        ours.close()
        assert ours.closed

    def test_takes_gymnasiums_options_and_says_what_gymnasium_says(self):
        options = {"ctrl_cost_weight": 0.5, "max_episode_steps": 3}
        with without_model_warnings():
            theirs = gymnasium.make_vec("Hopper-v5", num_envs=4, **options)
        ours = gymnasium.make_vec("mjxppo/Hopper-v5", num_envs=4, **options)
        rng = np.random.default_rng(0)
        assert ours.reset(seed=0)[1].keys() == theirs.reset(seed=0)[1].keys()
        for t in range(5):
            action = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
            *ours_out, infos = ours.step(action)
            *theirs_out, theirs_infos = theirs.step(action)
            assert [(x.dtype, x.shape) for x in ours_out] == [(x.dtype, x.shape) for x in theirs_out]
            assert infos.keys() == theirs_infos.keys()
            assert ours_out[3].all() == theirs_out[3].all() == (t == 2)
            if t != 3:
                np.testing.assert_allclose(infos["reward_ctrl"], -0.5 * (action**2).sum(-1), rtol=1e-5)

    def test_draws_every_world_as_it_is(self):
        with without_model_warnings():
            theirs = gymnasium.make_vec("Hopper-v5", num_envs=1, render_mode="rgb_array")
        ours = gymnasium.make_vec("mjxppo/Hopper-v5", num_envs=3, render_mode="rgb_array", width=160, height=120)
        assert ours.render_mode == theirs.render_mode == "rgb_array"
        assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
        assert set(ours.metadata["render_modes"]) <= set(theirs.metadata["render_modes"])
        with pytest.raises(gymnasium.error.ResetNeeded, match="render"):
            ours.render()
        ours.reset(seed=[1, 1, 2])
        before = ours.render()
        for _ in range(10):
            ours.step(np.array([[0, 0, 0], [1, 1, 1], [-1, -1, -1]]))
        after = ours.render()
        for frames in (before, after):
            assert isinstance(frames, tuple) and [(x.shape, x.dtype) for x in frames] == [((120, 160, 3), np.uint8)] * 3
        change = [np.abs(x.astype(int) - y).max() for x, y in itertools.combinations(after, 2)]
        assert (before[0] == before[1]).all() and min(change) > 50, "each in its own pose"
        ours.close()

    def test_without_a_render_mode_there_are_no_pictures(self):
        ours = gymnasium.make_vec("mjxppo/Hopper-v5")
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert ours.render_mode is None and ours.render() is None

    def test_is_found_by_its_module_without_any_import_and_costs_nothing_before(self):
        code = (
            "import sys, gymnasium; spec = gymnasium.envs.registration._find_spec('mjxppo.gymnasium:mjxppo/Hopper-v5');"
        )
        code += "print(spec.id, [n for n in ('jax', 'mujoco') if n in sys.modules])"
        environment = {"PYTHONPATH": str(Path(mjxppo.__file__).parents[1])}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert (done.stdout.strip(), done.stderr) == ("mjxppo/Hopper-v5 []", "")


@pytest.mark.parametrize("gym_id", ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5"])
def test_gymnasiums_make_names_make_vec(gym_id):
    with pytest.raises(gymnasium.error.Error, match=rf'gymnasium.make_vec\("mjxppo/{gym_id}", num_envs='):
        gymnasium.make(f"mjxppo.gymnasium:mjxppo/{gym_id}")
