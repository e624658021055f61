"""Our tasks are Gymnasium's: same states and actions in, same observation, reward terms and episode ends out."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICKLY
from scipy import stats

from mjxppo import envs
from mjxppo.envs.registry import TASKS
from mjxppo.envs.robot_task import RobotTask
from mjxppo.physics.compiler import compiler_aborts
from mjxppo.physics.messages import without_model_warnings

ROBOTS = [name for name, entry in TASKS.items() if entry.is_robot and entry.in_gymnasium]
HUMANOIDS = ("humanoid", "humanoid_standup")
"""Their files ask for a solver that does not converge: test_humanoid.py compares them with one that does."""
NEEDS_MJX = pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")


def robots(exhaustive=()):
    """The tasks as parameters; ``exhaustive`` ones take long."""
    marks = {name: [NEEDS_MJX] if name in HUMANOIDS else [] for name in ROBOTS}
    return [pytest.param(x, marks=marks[x] + [pytest.mark.exhaustive] * (x in exhaustive)) for x in ROBOTS]


def record(gym_id: str, num_steps: int, action_scale: float, seed: int = 0) -> dict[str, np.ndarray]:
    """What Gymnasium's own environment does under random actions: states before, actions, and all that came out."""
    with without_model_warnings():
        env = gymnasium.make(gym_id)
    inner = env.unwrapped
    rng = np.random.default_rng(seed)
    rows: dict[str, list] = {}
    env.reset(seed=seed)
    elapsed = 0
    action = np.zeros(env.action_space.shape)
    for _ in range(num_steps):
        # Correlated actions, some outside [-1, 1], reach further than independent ones before the robot falls.
        action = 0.7 * action + action_scale * rng.uniform(-1, 1, action.shape)
        before = {
            "qpos": inner.data.qpos.copy(),
            "qvel": inner.data.qvel.copy(),
            "qacc_warmstart": inner.data.qacc_warmstart.copy(),
            "lag": inner.data.xpos[1, :2] - inner.data.qpos[:2],
            "elapsed": elapsed,
            "action": action.copy(),
        }
        obs, reward, terminated, truncated, info = env.step(action * env.action_space.high)
        elapsed += 1
        terms = {name: value for name, value in info.items() if name.startswith("reward_") or name.endswith("_penalty")}
        after = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated}
        for name, value in {**before, **after, **terms}.items():
            rows.setdefault(name, []).append(value)
        if terminated or truncated:
            env.reset()
            elapsed, action = 0, np.zeros(action.shape)
    return {name: np.array(values) for name, values in rows.items()}


def step_from(task: str, recorded: dict[str, np.ndarray]) -> envs.EnvState:
    """One step of our environment, in float64, from each recorded state, as a batch of worlds."""
    env = envs.make(task)
    num_worlds = len(recorded["reward"])

    def run(qpos, qvel, qacc_warmstart, lag, elapsed, action):
        state = env.reset(jax.random.split(jax.random.key(0), num_worlds))
        worlds = state.worlds.replace(qpos=qpos, qvel=qvel, qacc_warmstart=qacc_warmstart)
        if task == "ant":
            worlds = worlds.replace(lag=lag)
        return env.step(state.replace(worlds=worlds, episode_length=elapsed), action)

    arguments = [jnp.asarray(recorded[name]) for name in ("qpos", "qvel", "qacc_warmstart", "lag")]
    arguments += [jnp.asarray(recorded["elapsed"], jnp.int32), jnp.asarray(recorded["action"])]
    return jax.jit(run, compiler_options=QUICKLY)(*arguments)


# Ant's step takes XLA half a minute to compile; test_ant.py has it computed by NumPy.
@pytest.mark.parametrize(
    "task",
    [pytest.param(x, marks=pytest.mark.exhaustive if x == "ant" else ()) for x in ROBOTS if x not in HUMANOIDS],
)
def test_each_step_equals_gymnasiums(task):
    recorded = record(TASKS[task].gym_id, num_steps=3000, action_scale=0.6)
    with jax.enable_x64(True):
        state = jax.device_get(step_from(task, recorded))
    np.testing.assert_array_equal(state.terminated, recorded["terminated"])
    np.testing.assert_array_equal(state.truncated, recorded["truncated"])
    # Gymnasium's solver stops at a tolerance of 1e-8, which is what remains of a difference.
    np.testing.assert_allclose(state.final_obs, recorded["obs"], atol=1e-5)
    np.testing.assert_allclose(state.reward, recorded["reward"], atol=1e-5)
    terms = {name for name in recorded if name.startswith("reward_") or name.endswith("_penalty")}
    assert terms == set(state.reward_terms)
    for name in terms:
        np.testing.assert_allclose(state.reward_terms[name], recorded[name], atol=1e-5, err_msg=name)
    # The test has to have seen what it claims to compare.
    assert np.abs(recorded["action"]).max() > 1
    assert not state.nonfinite.any()
    if task == "ant":
        assert recorded["terminated"].sum() > 3
    elif task in ("half_cheetah", "swimmer", "reacher"):
        episodes = 3000 // TASKS[task].max_episode_steps
        assert recorded["truncated"].sum() == episodes and not recorded["terminated"].any()
    else:
        assert recorded["terminated"].sum() > 20


def test_hopper_terminates_exactly_when_gymnasium_does():
    cases = [
        ("qpos", 1, 0.701, True),
        ("qpos", 1, 0.65, False),
        ("qpos", 2, 0.15, True),
        ("qpos", 2, 0.25, False),
        ("qpos", 2, -0.25, False),
        ("qvel", 0, 99.0, True),
        ("qvel", 0, 101.5, False),
        ("qvel", 4, -150.0, False),
    ]
    with without_model_warnings():
        gym_env = gymnasium.make("Hopper-v5")
    recorded = {
        name: np.zeros((len(cases), n)) for name, n in (("qpos", 6), ("qvel", 6), ("qacc_warmstart", 6), ("lag", 2))
    }
    recorded |= {
        "action": np.zeros((len(cases), 3)),
        "elapsed": np.zeros(len(cases), int),
        "reward": np.zeros(len(cases)),
    }
    recorded["qpos"][:, 1] = 1.25
    ended = []
    for world, (field, index, value, _) in enumerate(cases):
        recorded[field][world, index] = value
        gym_env.reset(seed=0)
        recorded["qacc_warmstart"][world] = gym_env.unwrapped.data.qacc_warmstart
        gym_env.unwrapped.set_state(recorded["qpos"][world], recorded["qvel"][world])
        _, recorded["reward"][world], terminated, _, _ = gym_env.step(np.zeros(3))
        ended.append(terminated)
    with jax.enable_x64(True):
        state = jax.device_get(step_from("hopper", recorded))
    assert state.terminated.tolist() == ended == [not healthy for *_, healthy in cases]
    np.testing.assert_allclose(state.reward, recorded["reward"], atol=1e-5)


@pytest.mark.parametrize("task", robots(exhaustive=["humanoid_standup"]))
def test_reset_distribution_equals_gymnasiums(task):
    env = envs.make(task)
    keys = jax.vmap(jax.random.key)(jnp.arange(4000))
    state = jax.device_get(jax.jit(env.reset)(keys).worlds)
    with without_model_warnings():
        inner = gymnasium.make(TASKS[task].gym_id).unwrapped
    inner.reset(seed=1)
    samples = [(inner.reset_model(), inner.data.qpos.copy(), inner.data.qvel.copy()) for _ in range(4000)]
    for ours, theirs in (
        (state.qpos, np.stack([s[1] for s in samples])),
        (state.qvel, np.stack([s[2] for s in samples])),
    ):
        for i in range(ours.shape[1]):
            assert stats.ks_2samp(ours[:, i], theirs[:, i]).pvalue > 1e-4, f"{task}, component {i}"
        varying = ours[:, ours.std(0) > 0]  # the target of Reacher stands still
        correlation = np.corrcoef(varying.T) - np.eye(varying.shape[1])
        assert np.abs(correlation).max() < 0.08, "components are independent"


@pytest.mark.parametrize("task", [*robots(), *(x for x, e in TASKS.items() if e.in_gymnasium and not e.is_robot)])
def test_sizes_and_time_step_equal_gymnasiums(task):
    env = envs.make(task)
    with without_model_warnings():
        gym_env = gymnasium.make(TASKS[task].gym_id)
    assert (env.obs_size,) == gym_env.observation_space.shape
    if isinstance(env.task, RobotTask):
        assert (env.action_size,) == gym_env.action_space.shape
        assert env.step_duration == pytest.approx(gym_env.unwrapped.dt)
    else:
        assert env.actions.categories == (gym_env.action_space.n,)
    assert env.max_episode_steps == gym_env.spec.max_episode_steps


def test_options_mean_what_they_mean_in_gymnasium():
    options = {"ctrl_cost_weight": 0.5, "forward_reward_weight": 2.0, "healthy_reward": 3.0}
    with without_model_warnings():
        gym_env = gymnasium.make("Hopper-v5", **options)
    gym_env.reset(seed=0)
    data = gym_env.unwrapped.data
    env = envs.make("hopper", **options)
    state = env.reset(jax.random.split(jax.random.key(0), 1))
    state = state.replace(worlds=env.task.physics.init(data.qpos[None].copy(), data.qvel[None].copy()))
    action = np.array([0.3, -0.5, 0.8])
    _, reward, _, _, _ = gym_env.step(action)
    np.testing.assert_allclose(jax.jit(env.step)(state, action[None]).reward[0], reward, rtol=1e-4)
