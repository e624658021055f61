"""Domain randomisation: what is drawn, what it does to a world, and what it must not depend on."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from toy import PointMass

from mjxppo import physics
from mjxppo.analysis.plot import plot
from mjxppo.config.check import make_config
from mjxppo.config.randomize import RandomizeConfig, Spread, check_ranges
from mjxppo.config.schema import Config, LogConfig, PolicyConfig, PpoConfig
from mjxppo.config.values import from_dict, to_yaml
from mjxppo.envs import Environment, build
from mjxppo.envs.half_cheetah import HalfCheetah, HalfCheetahOptions
from mjxppo.envs.randomize.task import RandomizedTask
from mjxppo.errors import UserError
from mjxppo.ppo.program import TrainingProgram
from mjxppo.run.arrays import from_named_arrays, named_arrays
from mjxppo.run.loop import Callbacks, train
from mjxppo.run.metrics import read_rows

SLED = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0"/> <joint name="z" type="slide" axis="0 0 1"/>
      <geom type="sphere" size="0.1"/>
      <body pos="0 0 0.2"> <joint name="arm" axis="0 1 0" damping="0.1"/> <geom type="capsule" size="0.03 0.1"/> </body>
    </body>
  </worldbody>
  <actuator> <motor joint="arm" gear="3" ctrlrange="-1 1" ctrllimited="true"/> </actuator>
</mujoco>
"""
"""A robot that compiles in no time."""

PHYSICAL = RandomizeConfig(
    mass=Spread("uniform", 0.5, 2.0, each=True),
    friction=Spread("log_uniform", 0.5, 2.0),
    strength=Spread("normal", 0.8, 1.2),
    damping=Spread("uniform", 0.0, 0.3, operation="add"),
    size=Spread("uniform", 0.8, 1.25),
    gravity=Spread("uniform", 0.9, 1.1),
    slope=Spread("uniform", -5.0, 5.0, operation="add"),
)
SENSES = RandomizeConfig(
    observation_bias=Spread("uniform", -0.1, 0.1, operation="add"),
    observation_noise=0.05,
    max_action_delay=3,
    drop_action=0.2,
)


@pytest.fixture(scope="module")
def sled(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sled.xml"
    path.write_text(SLED)
    return HalfCheetah(HalfCheetahOptions(xml_file=str(path), frame_skip=2, max_episode_steps=10), "planar")


def wrap(task, config):
    return Environment(RandomizedTask(task, config))


def variation_of(env, state):
    return env.task.variation_in_use(state.worlds)


def parameters_of(env, state):
    return variation_of(env, state).parameters


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_an_environment_that_is_not_randomised_is_left_alone():
    env = Environment(PointMass())
    assert build.environment(Config(env="point_mass"), env) is env


def test_numbers_stay_within_their_ranges_and_fill_them(sled):
    env = wrap(sled, PHYSICAL)
    own = {name: np.asarray(x) for name, x in parameters_of(env, jax.jit(env.reset)(keys(2000))).items()}
    model = sled.model
    size = own["body_pos"][:, 2, 2] / model.body_pos[2, 2]
    assert (size.min(), size.max()) == (pytest.approx(0.8, abs=0.01), pytest.approx(1.25, abs=0.01))
    np.testing.assert_allclose(own["geom_size"][:, 0], model.geom_size[0][None].repeat(2000, 0))  # the floor
    np.testing.assert_allclose(own["geom_size"][:, 2, :2], model.geom_size[2, :2] * size[:, None], 1e-6)
    mass = own["body_mass"][:, 1:] / model.body_mass[1:] / size[:, None] ** 3
    assert (mass.min(), mass.max()) == (pytest.approx(0.5, abs=0.01), pytest.approx(2.0, abs=0.01))
    assert abs(np.corrcoef(mass.T)[0, 1]) < 0.1, "each body has its own"
    inertia = own["body_inertia"][:, 1:] / model.body_inertia[1:] / size[:, None, None] ** 5
    np.testing.assert_allclose(inertia, mass[..., None].repeat(3, -1), 1e-5)
    friction = own["geom_friction"][:, :, 0] / model.geom_friction[:, 0]
    assert np.median(friction) == pytest.approx(1.0, abs=0.05)
    assert friction.min() >= 0.5 and friction.max() <= 2.0
    np.testing.assert_array_equal(friction, friction[:, :1].repeat(model.ngeom, 1))
    strength = own["actuator_gainprm"][:, 0, 0]
    assert strength.min() >= 0.8 and strength.max() <= 1.2
    assert strength.std() == pytest.approx(0.1 * 0.88, abs=0.01), "a normal distribution cut off at two deviations"
    added = own["dof_damping"] - model.dof_damping
    assert np.all(added[:, :2] == 0), "nothing holds the robot to the world"
    assert added[:, 2].min() >= 0 and added[:, 2].max() <= 0.3 + 1e-6
    gravity = own["opt.gravity"]
    assert np.linalg.norm(gravity, axis=1) == pytest.approx(9.81, rel=0.11)
    slope = np.rad2deg(np.arctan2(gravity[:, 0], gravity[:, 2])) - 180
    assert np.abs((slope + 180) % 360 - 180).max() <= 5.01


def test_uphill_pulls_back(sled):
    env = wrap(sled, RandomizeConfig(slope=Spread("uniform", 3.0, 5.0, operation="add")))
    assert np.all(np.asarray(parameters_of(env, jax.jit(env.reset)(keys(4)))["opt.gravity"])[:, 0] < 0)


def test_an_episode_has_a_robot_of_its_own_from_its_first_step_to_its_last(sled):
    env = wrap(sled, PHYSICAL)
    step, prepare = jax.jit(env.step), jax.jit(env.prepare)
    state = jax.jit(env.reset)(keys(8))
    robots = [parameters_of(env, state)]
    for t in range(1, 51):
        state = step(state if t in (33, 41) else prepare(state), jnp.zeros((8, 1)))  # updates come at any time
        assert np.all(state.truncated) == (t % 10 == 0)
        if t % 10 == 0:
            robots.append(parameters_of(env, state))
        assert_same_bits(parameters_of(env, state), robots[-1])
    masses = [np.asarray(robot["body_mass"])[:, 1:] for robot in robots]
    assert all(np.all(a != b) for a, b in itertools.combinations(masses, 2))


def test_between_two_updates_a_world_gets_one_new_robot(sled):
    env = wrap(sled, PHYSICAL)
    step = jax.jit(env.step)
    state = jax.jit(env.reset)(keys(8))
    first, seen = parameters_of(env, state), []
    for _ in range(3):
        for _ in range(10):
            state = step(state, jnp.zeros((8, 1)))
        seen.append(parameters_of(env, state))
    assert_same_bits(seen[1], seen[0])
    assert_same_bits(seen[2], seen[0])
    assert np.all(np.asarray(seen[0]["body_mass"] != first["body_mass"])[:, 1:])


def test_preparing_changes_nothing_that_is_in_use(sled):
    env = wrap(sled, dataclasses.replace(PHYSICAL, observation_noise=0.1))
    step, prepare = jax.jit(env.step), jax.jit(env.prepare)
    state = jax.jit(env.reset)(keys(8))
    assert_same_bits(prepare(state), state)
    state = dataclasses.replace(state, clock_offset=jnp.arange(8))  # they end one after the other
    for _ in range(7):
        state = step(state, jnp.zeros((8, 1)))
    assert 0 < np.sum(state.worlds.next_in_use) < 8
    prepared = prepare(state)
    assert not np.any(prepared.worlds.next_in_use)
    assert_same_bits(variation_of(env, prepared), variation_of(env, state))
    assert_same_bits(step(prepared, jnp.zeros((8, 1))).obs, step(state, jnp.zeros((8, 1))).obs)


def test_a_world_may_keep_its_parameters_for_good(sled):
    env = wrap(sled, dataclasses.replace(PHYSICAL, redraw="never", max_action_delay=3))
    state = jax.jit(env.reset)(keys(8))
    first, step = variation_of(env, state), jax.jit(env.step)
    for _ in range(11):
        state = step(env.prepare(state), jnp.zeros((8, 1)))
    assert np.all(state.episode_length == 1)
    assert_same_bits(variation_of(env, state), first)


def test_a_world_depends_neither_on_its_neighbours_nor_on_what_else_varies(sled):
    env = wrap(sled, PHYSICAL)
    many, few = jax.jit(env.reset)(keys(64)), jax.jit(env.reset)(keys(64)[:16])
    assert_same_bits(jax.tree.map(lambda x: x[:16], many), few)
    friction_only = jax.jit(wrap(sled, RandomizeConfig(friction=PHYSICAL.friction)).reset)(keys(16))
    np.testing.assert_array_equal(
        friction_only.worlds.variation.parameters["geom_friction"], few.worlds.variation.parameters["geom_friction"]
    )


def test_a_randomised_world_is_c_mujoco_on_its_own_model(sled):
    env = wrap(sled, PHYSICAL)
    state = jax.jit(env.reset)(keys(16))
    action = jax.random.uniform(jax.random.key(1), (16, 1), minval=-1, maxval=1)
    moved = state
    for _ in range(5):
        moved = jax.jit(env.step)(moved, action)
    start, end, own = state.worlds.inner, moved.worlds.inner, parameters_of(env, state)
    for i in range(16):
        fields = {name: np.asarray(x[i], np.float64) for name, x in own.items()}
        model = physics.modified_model(sled.model, fields)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = start.qpos[i], start.qvel[i], action[i]
        mujoco.mj_step(model, data, 10)
        np.testing.assert_allclose(end.qvel[i], data.qvel, atol=2e-4)


def test_pushes_change_the_roots_velocity_only(sled):
    always = wrap(sled, RandomizeConfig(push=1.0, push_speed=0.5))
    state = jax.jit(always.reset)(keys(200))

    def change(env):
        return np.asarray(env.task.disturb(state.worlds, None)[0].inner.qvel - state.worlds.inner.qvel)

    pushed = change(always)
    assert np.all(pushed[:, 2] == 0)
    assert np.abs(pushed[:, :2]).max() <= 0.5
    assert pushed[:, :2].max(0).min() > 0.4 and pushed[:, :2].min(0).max() < -0.4
    assert abs(np.corrcoef(pushed[:, 0], pushed[:, 1])[0, 1]) < 0.2
    some = np.any(change(wrap(sled, RandomizeConfig(push=0.3, push_speed=0.5))) != 0, axis=1)
    assert some.mean() == pytest.approx(0.3, abs=0.1)


def test_actions_take_effect_late_by_a_time_that_is_the_episodes_own():
    env = wrap(PointMass(), RandomizeConfig(max_action_delay=3))
    state = jax.jit(env.reset)(keys(40))
    delay = np.asarray(variation_of(env, state).action_delay)
    assert set(delay) == {0, 1, 2, 3}
    actions = 0.1 * np.arange(1, 7)
    for t, action in enumerate(actions):
        before = np.asarray(state.worlds.inner["x"])
        state = env.step(state, jnp.full((40, 2), action))
        moved = np.asarray(state.worlds.inner["x"]) - before
        expected = np.where(t >= delay, 0.3 * actions[np.maximum(t - delay, 0)], 0.0)
        np.testing.assert_allclose(moved, expected[:, None].repeat(2, 1), atol=1e-6)


def test_a_lost_action_leaves_the_one_before_in_effect():
    env = wrap(PointMass(), RandomizeConfig(drop_action=0.4))
    step = jax.jit(env.step)
    state = jax.jit(env.reset)(keys(500))
    in_effect = np.zeros((500, 2))
    lost = []
    for t in range(5):
        action = np.float32(0.1 * (t + 1))
        state = step(state, jnp.full((500, 2), action))
        now = np.asarray(state.worlds.action_in_effect)
        kept = (now == in_effect).all(1)
        assert np.all(now[~kept] == action)
        lost.append(kept.mean())
        in_effect = now
    assert np.mean(lost) == pytest.approx(0.4, abs=0.05)


def test_observations_have_a_lasting_error_and_a_passing_one():
    env = wrap(PointMass(), dataclasses.replace(SENSES, max_action_delay=0, drop_action=0.0))
    step = jax.jit(env.step)
    state = jax.jit(env.reset)(keys(1000))
    errors = []
    for _ in range(8):
        state = step(state, jnp.zeros((1000, 2)))
        errors.append(np.asarray(state.obs - env.task.inner.observe(state.worlds.inner)))
    lasting, passing = np.mean(errors, axis=0), np.array(errors) - np.asarray(state.worlds.variation.observation_bias)
    assert np.abs(lasting).max() < 0.1 + 0.09
    assert passing.std() == pytest.approx(0.05, abs=0.003)
    assert abs(np.corrcoef(passing[0].ravel(), passing[1].ravel())[0, 1]) < 0.1
    assert np.asarray(state.reward) == pytest.approx(-np.square(state.worlds.inner["x"]).sum(1), abs=1e-5)


def program(num_devices=1, randomize=SENSES):
    config = Config(
        env="point_mass",
        total_env_steps=32 * 8 * 8,
        num_devices=num_devices,
        policy=PolicyConfig(hidden_sizes=(8,)),
        ppo=PpoConfig(num_envs=32, block_size=4, rollout_length=8, num_minibatches=4, num_epochs=1),
        log=LogConfig(every_updates=2),
    )
    return TrainingProgram(wrap(PointMass(max_episode_steps=6), randomize), config)


@pytest.mark.usefixtures("compiled_quickly")
def test_training_goes_on_to_the_bit_from_what_a_checkpoint_holds():
    run = program()
    total = run.budget(10**6)
    state, _ = run.train_chunk(run.init(), total)
    saved = named_arrays(state)
    assert any("past_actions" in name for name in saved)
    whole, _ = run.train_chunk(state, total)
    resumed, _ = run.train_chunk(run.place(from_named_arrays(run.init(), saved)), total)
    whole, resumed = named_arrays(whole), named_arrays(resumed)
    assert all(whole[name].tobytes() == resumed[name].tobytes() for name in whole)


@pytest.mark.exhaustive
def test_worlds_do_not_depend_on_the_number_of_devices():
    if len(jax.devices()) < 4:
        pytest.skip("needs 4 devices")
    states = []
    for num_devices in (2, 4):
        run = program(num_devices)
        # After one update the parameters differ by the order of sums.
        state, _ = run.train_chunk(run.init(), run.budget(32 * 8))
        states.append(named_arrays(state.env_state))
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])


@pytest.mark.parametrize(
    ("field", "spread", "message"),
    [
        ("mass", Spread("uniform", 1.2, 0.8), "mass.low: must not be above randomize.mass.high = 0.8, is 1.2"),
        ("mass", Spread("uniform", 0.0, 0.8), "mass.low: a factor must be positive, is 0.0"),
        ("mass", Spread("uniform", 0.5, 1, operation="add"), "mass.operation: must be scale, not add"),
        ("slope", Spread("uniform", -5, 5), "slope.operation: must be add, not scale"),
        ("friction", Spread("uniform", 0.5, 1, each=True), "friction.each: must be false"),
        ("damping", Spread("log_uniform", 0.0, 1), "damping.low: must be positive for log_uniform, is 0.0"),
    ],
)
def test_a_spread_that_makes_no_sense_is_refused(field, spread, message):
    with pytest.raises(UserError, match=f"^randomize.{message}"):
        check_ranges(RandomizeConfig(**{field: spread}))


@pytest.mark.parametrize(("quantity", "least"), [("friction", -1.0), ("damping", -0.1), ("armature", 0.0)])
def test_adding_must_not_make_a_quantity_negative(sled, quantity, least):
    spread = Spread("uniform", least, 1.0, operation="add")
    assert wrap(sled, RandomizeConfig(**{quantity: spread})).task.config.on
    beyond = dataclasses.replace(spread, low=least - 0.1)
    with pytest.raises(
        UserError, match=rf"^randomize\.{quantity}\.low: must be {least:g} or more, is {beyond.low:g}: "
    ):
        wrap(sled, RandomizeConfig(**{quantity: beyond}))


def test_a_curriculum_needs_new_draws():
    with pytest.raises(UserError, match=r"^randomize\.curriculum_return: needs randomize\.redraw = episode"):
        check_ranges(RandomizeConfig(curriculum_return=1.0, redraw="never"))


def test_physics_that_is_not_ours_cannot_be_varied():
    with pytest.raises(UserError, match=r"^randomize\.mass: point_mass is not simulated by this package's physics"):
        RandomizedTask(PointMass(), RandomizeConfig(mass=Spread("uniform", 0.5, 1)))


def test_a_backend_that_cannot_vary_is_refused_when_the_task_is_made(sled, monkeypatch):
    monkeypatch.setattr(physics.Physics, "takes_parameters", False)
    with pytest.raises(
        UserError, match=r"^randomize\.mass: cannot vary in planar; set physics\.backend to planar, spatial or mjx"
    ):
        wrap(sled, PHYSICAL)
    assert wrap(sled, SENSES).name == sled.name


def test_a_file_can_say_it_all():
    values = {"env": "hopper", "randomize": {"mass": {"distribution": "uniform", "low": 0.5, "high": 2}}}
    config = make_config(values)
    assert config.randomize.mass == Spread("uniform", 0.5, 2.0)
    assert config.randomize.on and not from_dict({"env": "hopper"}).randomize.on
    values["randomize"] = {"mass": {"hihg": 2}}
    with pytest.raises(UserError, match=r"^randomize\.mass\.hihg: no such field; did you mean randomize\.mass\.high"):
        from_dict(values)


CURRICULUM = RandomizeConfig(
    observation_bias=Spread("uniform", 0.5, 1.0, operation="add"), curriculum_return=-3.0, curriculum_step=0.25
)


def test_the_curriculum_widens_where_the_return_holds_and_narrows_where_it_does_not():
    env = wrap(PointMass(max_episode_steps=6), CURRICULUM)
    step, prepare, state = jax.jit(env.step), jax.jit(env.prepare), jax.jit(env.reset)(keys(6))
    state = dataclasses.replace(state, clock_offset=jnp.array([0, 0, 0, 0, 0, 1]))
    good = jnp.array([True, True, True, False, False, True])[:, None]

    def act(state, good):
        x = state.worlds.inner["x"]
        return step(prepare(state), jnp.where(good, jnp.clip(-x / 0.3, -1, 1), jnp.sign(x)))

    def errors(state):
        return np.asarray(variation_of(env, state).observation_bias)

    assert np.all(errors(state) == 0), "at first, the model itself"
    for _ in range(5):
        state = act(state, good)
    assert state.done[5] and state.worlds.range_share[5] == 0, "an episode that was cut short says nothing"
    for _ in range(7):
        state = act(state, good)
    np.testing.assert_allclose(state.worlds.range_share[:5], [0.5, 0.5, 0.5, 0, 0])
    assert errors(state)[:3].min() >= 0.125 and errors(state)[:3].max() <= 0.25, "felt an episode later"
    assert np.all(errors(state)[3:5] == 0)
    np.testing.assert_array_equal(env.metrics(state)["randomization_extent"], state.worlds.range_share)
    for _ in range(6):
        state = act(state, ~good)
    assert np.all(np.asarray(state.worlds.range_share[:3]) < 0.5)
    assert errors(state)[:3].min() >= 0.25 and errors(state)[:3].max() <= 0.5


@pytest.mark.usefixtures("compiled_quickly")
def test_how_far_the_curriculum_has_come_is_a_metric_like_any(tmp_path):
    run = program(randomize=dataclasses.replace(CURRICULUM, curriculum_return=-1e6))
    seen = []
    train(run, tmp_path, callbacks=Callbacks(metrics=lambda rows: seen.extend(rows)))
    extents = [row["randomization_extent"] for row in seen]
    assert extents == sorted(extents) and 0 < extents[0] < extents[-1] == 1.0
    assert [row["randomization_extent"] for row in read_rows(tmp_path)] == extents
    assert b"learning/randomization_extent" in b"".join(path.read_bytes() for path in (tmp_path / "tb").iterdir())
    (tmp_path / "config.yaml").write_text(to_yaml(run.config))
    curves = plot([tmp_path], y="randomization_extent")["curves"]
    assert curves[0]["final_y"] == 1.0
    assert "randomization_extent" not in env_metrics(SENSES)


def env_metrics(randomize):
    env = wrap(PointMass(), randomize)
    return env.metrics(jax.jit(env.reset)(keys(2)))
