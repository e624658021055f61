"""The world that a view shows: what acts in it, what disturbs it, and where its policy comes from."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mujoco
import numpy as np
import pytest
from untrained_runs import CONFIG, arrays_of, save

from mjxppo import cli
from mjxppo.config.schema import Config
from mjxppo.envs.foreign.adapted import change_model
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import evaluate, make_gymnasium_env
from mjxppo.run import best, checkpoint
from mjxppo.run.load import find_policy
from mjxppo.view import server
from mjxppo.view.simulation import CHANGES, Pull, Simulation
from mjxppo.view.source import Source

POLICIES = Path(__file__).resolve().parents[2] / "docs" / "policies"
HOPPER, CHEETAH = POLICIES / "hopper_30m_seed1001.npz", POLICIES / "half_cheetah_50m_seed2001.npz"


@cache
def policy_in(path: Path):
    return find_policy(path)


def simulation(path: Path = HOPPER, seed: int = 7) -> Simulation:
    found = policy_in(path)
    return Simulation(found.policy, found.config, seed)


def after(steps: int, disturb=lambda world: None) -> Simulation:
    """A Hopper's world ``steps`` steps after ``disturb(world)``, which comes after 40 steps."""
    world = simulation()
    for step in range(40 + steps):
        if step == 40:
            disturb(world)
        world.step()
    return world


def test_an_undisturbed_episode_is_that_of_an_evaluation():
    found, world = policy_in(HOPPER), simulation(seed=3)
    while not (world.terminated or world.truncated):
        world.step()
    expected = evaluate(found.policy, found.config, "gymnasium", 1, 3)
    assert (world.episode_return, world.steps) == (expected["returns"][0], expected["lengths"][0])


def test_the_return_does_not_grow_after_the_end_and_a_reset_begins_the_next_seed():
    world = simulation()
    world.change({"gravity": 3.0})
    while not world.terminated:
        world.step()
    ended = world.episode_return
    world.step()
    assert world.episode_return == ended
    world.reset()
    assert (world.steps, world.episode_return, world.terminated, world.episodes) == (0, 0.0, False, 1)
    other = simulation(seed=8)
    np.testing.assert_array_equal(world.obs, other.obs)


@pytest.mark.parametrize(("direction", "sign"), [("forward (+x)", 1), ("backward (-x)", -1)])
def test_a_push_makes_the_robot_faster_in_its_direction_and_ends(direction, sign):
    calm, pushed = after(12), after(12, lambda world: world.push(direction, 1.0))
    during = after(2, lambda world: world.push(direction, 1.0))
    assert sign * during.pushed[0] > 0 and sign * (during.data.qpos[0] - after(2).data.qpos[0]) > 0
    change = pushed.data.qvel[0] - calm.data.qvel[0]
    assert 0.3 < sign * change < 3
    assert not pushed.pushed.any()
    pushed.step()
    assert not pushed.data.xfrc_applied.any()


def test_a_pull_draws_a_body_to_its_target_until_it_is_let_go():
    def pull(world):
        torso = int(world.model.body_geomadr[world.root])
        world.pull = Pull(torso, np.zeros(3), world.grabbed_point(torso, np.zeros(3)) + [-1.0, 0.0, 0.0])

    calm, pulled = after(8), after(8, pull)
    assert pulled.data.qpos[0] < calm.data.qpos[0] - 0.01
    pulled.pull = None
    pulled.step()
    assert not pulled.data.xfrc_applied.any()


def test_only_directions_in_which_the_robot_can_move_are_offered():
    assert [name.split()[0] for name in simulation().directions] == ["forward", "backward", "up", "down"]


@pytest.mark.parametrize("changes", [{"friction": 0.5}, {"mass": 1.4}, {"gravity": 0.5}, {"slope": 6.0}])
def test_changes_are_those_of_the_robustness_map_and_do_not_add_up(changes):
    world, env = simulation(), make_gymnasium_env(CONFIG)
    change_model(env, changes, "perturb")
    nominal = simulation().model
    names = ("body_mass", "body_inertia", "geom_friction", "actuator_gear", "dof_invweight0")
    for _ in range(2):
        world.change({"mass": 2.0, "slope": -3.0})
        world.change(dict.fromkeys(CHANGES, 1.0) | {"slope": 0.0} | changes)
    for name in names:
        np.testing.assert_allclose(getattr(world.model, name), getattr(env.unwrapped.model, name), rtol=1e-12)
    np.testing.assert_allclose(world.model.opt.gravity, env.unwrapped.model.opt.gravity)
    assert any(not np.array_equal(getattr(world.model, name), getattr(nominal, name)) for name in names) or (
        not np.array_equal(world.model.opt.gravity, nominal.opt.gravity)
    )
    with pytest.raises(UserError, match="'strenght' is none of"):
        world.change({"strenght": 1.0})


def test_a_delayed_action_takes_effect_that_many_steps_later():
    world = simulation()
    world.delay = 2
    chosen = []
    for _ in range(5):
        chosen.append(world._act(world.obs[None])[0])
        world.step()
    np.testing.assert_array_equal(world.action, chosen[2])
    np.testing.assert_array_equal(world.data.ctrl, chosen[2])


def test_places_between_two_states_are_halfway():
    world = simulation(CHEETAH)
    world.step()
    world.step()
    half = world.pose_between(0.5)
    np.testing.assert_allclose(half.position, (world.before.position + world.now.position) / 2)
    np.testing.assert_allclose(np.linalg.norm(half.rotation, axis=1), 1)
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, world.pose_between(1.0).rotation[4])
    np.testing.assert_allclose(turn, world.data.geom_xmat[4], atol=1e-12)


def test_a_newer_checkpoint_of_a_run_is_read_once_when_it_is_whole(tmp_path):
    save(tmp_path / "run/ckpt/1", 0.1)
    source = Source(tmp_path / "run", of_best_evaluation=False)
    assert source.read().source.name == "1"
    assert source.read_if_new() is None
    save(tmp_path / "run/ckpt/2", 0.2, whole=False)
    assert source.read_if_new() is None
    checkpoint.write_checksums(tmp_path / "run/ckpt/2")
    newer = source.read_if_new()
    assert newer is not None and newer.source.name == "2"
    np.testing.assert_allclose(newer.policy(np.zeros(11)), 0.2, rtol=1e-6)
    assert source.read_if_new() is None


def test_a_better_policy_of_a_run_is_read(tmp_path):
    save(tmp_path / "run/ckpt/1", 0.1)
    best.keep_best(tmp_path / "run", arrays_of(0.3), CONFIG, {"update": 1, "eval/return_mean": 5.0})
    source = Source(tmp_path / "run", of_best_evaluation=True)
    np.testing.assert_allclose(source.read().policy(np.zeros(11)), 0.3, rtol=1e-6)
    best.keep_best(tmp_path / "run", arrays_of(0.4), CONFIG, {"update": 2, "eval/return_mean": 9.0})
    newer = source.read_if_new()
    assert newer is not None
    np.testing.assert_allclose(newer.policy(np.zeros(11)), 0.4, rtol=1e-6)


def test_another_policy_acts_from_the_next_step_on(tmp_path):
    save(tmp_path / "run/ckpt/1", 0.25)
    world = simulation()
    world.step()
    world.use(find_policy(tmp_path / "run").policy)
    world.step()
    np.testing.assert_allclose(world.action, 0.25, rtol=1e-6)


def refused(capsys, *arguments: str) -> str:
    assert cli.main(["view", *arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and not captured.out, captured.err
    return lines[0]


@pytest.fixture
def with_viser(monkeypatch):
    """What is refused is refused before viser is needed, but it is asked for first."""
    monkeypatch.setattr(server, "_viser_is_there", lambda: True)


def test_without_viser_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(server, "_viser_is_there", lambda: False)
    assert "pip install 'mjxppo[view]'" in refused(capsys, str(HOPPER))


@pytest.mark.usefixtures("with_viser")
def test_what_cannot_be_shown_is_refused_in_one_line(tmp_path, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in refused(capsys, str(HOPPER), "--port", port)
    assert "host" in refused(capsys, str(HOPPER), "--host", "no.such.machine.invalid")
    assert "port" in refused(capsys, str(HOPPER), "--port", "70000")
    assert "there is no such directory" in refused(capsys, str(tmp_path / "nothing"), "--port", port)
    save(tmp_path / "run/ckpt/1", 0.1)
    assert "--best" in refused(capsys, str(tmp_path / "run"), "--best", "--port", port)
    (tmp_path / "run/ckpt/1").rename(tmp_path / "elsewhere")
    assert "no checkpoint yet" in refused(capsys, str(tmp_path / "run"), "--port", port)
    with pytest.raises(UserError, match="pendulum"):
        Simulation(policy_in(HOPPER).policy, Config(env="pendulum"), 0)
    with pytest.raises(UserError, match="takes 17 observations, but hopper gives 11"):
        Simulation(policy_in(CHEETAH).policy, CONFIG, 0)
