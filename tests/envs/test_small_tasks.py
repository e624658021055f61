"""The small tasks on the device: CartPole is Gymnasium's, and the gridworld's optimum is found."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICKLY
from scipy import stats

import mjxppo
from mjxppo import envs
from mjxppo.envs.gridworld import GRID
from mjxppo.errors import UserError
from mjxppo.physics import PhysicsState
from mjxppo.physics.messages import without_model_warnings


@pytest.mark.parametrize("sutton", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_each_step_of_cartpole_equals_gymnasiums(sutton):
    options = {"sutton_barto_reward": sutton}
    env, theirs = envs.make("cartpole", **options), gymnasium.make("CartPole-v1", **options)
    rng, rows = np.random.default_rng(0), []
    theirs.reset(seed=0)
    for _ in range(2000):
        before, elapsed, action = theirs.unwrapped.state, theirs._elapsed_steps, int(rng.integers(2))
        if rng.random() < 0.05:  # of all angles, and about to fall
            theirs.unwrapped.state = before = rng.uniform(-1, 1, 4) * [2.4, 3, 0.21, 3]
        obs, reward, terminated, truncated, _ = theirs.step(action)
        rows.append((before, elapsed, action, theirs.unwrapped.state, reward, terminated, truncated, obs))
        if terminated or truncated:
            theirs.reset()
    before, elapsed, action, after, reward, terminated, truncated, _ = (np.array(x) for x in zip(*rows, strict=True))
    with jax.enable_x64(True):
        state = env.reset(jax.random.split(jax.random.key(0), len(rows)))
        state = state.replace(worlds=jnp.asarray(before), episode_length=jnp.asarray(elapsed, jnp.int32))
        state = jax.device_get(jax.jit(env.step)(state, action))
    np.testing.assert_allclose(state.final_obs, after, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(state.terminated, terminated)
    np.testing.assert_array_equal(state.truncated, truncated & ~terminated)
    np.testing.assert_array_equal(state.reward, reward)
    assert terminated.sum() > 50 and not state.nonfinite.any()


def test_cartpole_starts_and_ends_as_gymnasiums():
    env, theirs = envs.make("cartpole"), gymnasium.make("CartPole-v1")
    ours = np.asarray(env.reset(jax.vmap(jax.random.key)(jnp.arange(2000))).obs)
    starts = np.array([theirs.reset(seed=seed)[0] for seed in range(2000)])
    for i in range(4):
        assert stats.ks_2samp(ours[:, i], starts[:, i]).pvalue > 1e-4
    assert env.max_episode_steps == theirs.spec.max_episode_steps == 500
    with pytest.raises(UserError, match=r"env_options\.max_episode_steps: must be from 1 to 2147483647"):
        envs.make("cartpole", max_episode_steps=0)


def test_the_end_of_the_double_pendulums_rail_pushes_as_in_gymnasium():
    """States at the end of the rail, which a falling pendulum seldom reaches."""
    with without_model_warnings():
        theirs = gymnasium.make("InvertedDoublePendulum-v5").unwrapped
    rng = np.random.default_rng(0)
    count = 40
    qpos = np.c_[rng.choice([-1, 1], count) * rng.uniform(0.97, 1.01, count), rng.uniform(-0.1, 0.1, (count, 2))]
    qvel, action = rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(-1, 1, (count, 1))
    rows, warmstart = [], np.zeros((count, 3))
    for i in range(count):
        theirs.reset(seed=0)
        theirs.set_state(qpos[i], qvel[i])
        warmstart[i] = theirs.data.qacc_warmstart
        rows.append(theirs.step(action[i])[:2])
    with jax.enable_x64(True):
        env = envs.make("inverted_double_pendulum")
        state = env.reset(jax.random.split(jax.random.key(0), count))
        state = state.replace(worlds=PhysicsState(*(jnp.asarray(x) for x in (qpos, qvel, warmstart))))
        state = jax.device_get(jax.jit(env.step, compiler_options=QUICKLY)(state, action))
    expected = np.array([obs for obs, _ in rows])
    np.testing.assert_allclose(state.final_obs, expected, atol=1e-5)
    np.testing.assert_allclose(state.reward, [reward for _, reward in rows], atol=1e-5)
    pushed = np.abs(expected[:, 8])
    assert (pushed == 10).any() and (pushed == 0).any(), "both were seen"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xml_file": "hopper.xml"}, "env_options.xml_file: must have a cart, two poles"),
        ({"reset_noise_scale": 1.0}, "env_options.reset_noise_scale: must leave the cart away from the rail's ends"),
    ],
)
def test_another_double_pendulum_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message) as refused:
        envs.make("inverted_double_pendulum", **change)
    assert "\n" not in str(refused.value)


def value_iteration() -> tuple[np.ndarray, dict[tuple[int, int], float]]:
    """Values of the cells under the best moves, gamma 1; and of each cell and move the cell that it leads to.

    Written down cell by cell, sharing nothing with the task but the map.
    """
    free = {(r, c): GRID[r][c] for r in range(4) for c in range(4)}
    to = {}
    for r, c in free:
        for move, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            there = (r + down, c + right)
            to[4 * r + c, move] = 4 * there[0] + there[1] if free.get(there, "#") != "#" else 4 * r + c
    worth = {4 * r + c: {"+": 1.0, "-": -1.0}.get(cell) for (r, c), cell in free.items()}
    values = np.zeros(16)
    for _ in range(100):
        new = np.zeros(16)
        for cell in range(16):
            if worth[cell] is None and free[divmod(cell, 4)] == " ":
                following = (to[cell, move] for move in range(4))
                new[cell] = max(-0.1 + (values[k] if worth[k] is None else worth[k]) for k in following)
        values = new
    return values, to


def test_each_move_in_the_gridworld_is_as_written_down():
    env = envs.make("gridworld", mask_walls=True)
    _, to = value_iteration()
    cells = [4 * r + c for r in range(4) for c in range(4) if GRID[r][c] == " "]
    starts = np.asarray(jax.jit(env.reset)(jax.random.split(jax.random.key(0), 2000)).worlds)
    assert set(starts.tolist()) == set(cells)
    pairs = [(cell, move) for cell in cells for move in range(4)]
    state = env.reset(jax.random.split(jax.random.key(0), len(pairs)))
    state = state.replace(worlds=jnp.array([cell for cell, _ in pairs], jnp.int32))
    mask = np.asarray(env.action_mask(state))
    stepped = jax.jit(env.step)(state, np.array([move for _, move in pairs]))
    for i, (cell, move) in enumerate(pairs):
        there = to[cell, move]
        kind = GRID[there // 4][there % 4]
        assert stepped.final_obs[i].argmax() == there and stepped.final_obs[i].sum() == 1
        assert float(stepped.reward[i]) == pytest.approx(-0.1 + {"+": 1, "-": -1}.get(kind, 0))
        assert bool(stepped.terminated[i]) == (kind in "+-")
        assert mask[i, move] == (there != cell)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_the_gridworlds_optimum_is_learnt_in_every_cell(tmp_path, masked):
    fields = {"total_env_steps": 120_000, "log": {"tensorboard": False, "every_updates": 60}}
    run = mjxppo.train_policy("gridworld", run_dir=tmp_path / "run", env_options={"mask_walls": masked}, **fields)
    values, to = value_iteration()
    env = envs.make("gridworld", mask_walls=masked)
    cells = [4 * r + c for r in range(4) for c in range(4) if GRID[r][c] == " "]
    state = env.reset(jax.random.split(jax.random.key(0), len(cells)))
    state = state.replace(worlds=jnp.array(cells, jnp.int32))
    mask = env.action_mask(state)
    moves = run.policy(np.eye(16, dtype=np.float32)[cells], mask=None if mask is None else np.asarray(mask))
    assert moves.dtype == np.int64 and moves.shape == (len(cells),)
    for cell, move in zip(cells, moves, strict=True):
        there = to[cell, move]
        following = values[there] + {"+": 1, "-": -1}.get(GRID[there // 4][there % 4], 0)
        assert following - 0.1 == pytest.approx(values[cell]), f"cell {divmod(cell, 4)}: {move}"
    # The mean over all starts is that of the values, in whole episodes too.
    result = run.evaluate(episodes=200)
    assert result["engine"] == "own" and abs(result["mean"] - values[cells].mean()) < 0.06


@pytest.mark.usefixtures("compiled_quickly")
def test_cartpole_is_solved_on_the_device(tmp_path):
    fields = {"log": {"tensorboard": False, "every_updates": 50}}
    run = mjxppo.train_policy("cartpole", run_dir=tmp_path / "run", **fields)
    result = run.evaluate(episodes=20)
    assert result["engine"] == "gymnasium" and result["min"] >= 475
    obs = gymnasium.make("CartPole-v1").reset(seed=0)[0]
    action = run.policy(obs)
    assert gymnasium.make("CartPole-v1").action_space.contains(action)
