"""Gymnasium's spaces of choices: the same steps as by hand in every form, masks, observations, and what is refused."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import mjxppo
from mjxppo import cli, envs
from mjxppo.envs.actions import ActionSpec
from mjxppo.envs.foreign.adapted import make_one
from mjxppo.envs.foreign.spaces import action_spec
from mjxppo.errors import UserError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TREE = spaces.Dict(
    {
        "gear": spaces.Discrete(3, start=-1),
        "wheel": spaces.Box(np.array([0.0, -2.0], np.float32), np.array([4.0, 2.0], np.float32)),
        "more": spaces.Tuple((spaces.MultiDiscrete([2, 4]), spaces.MultiBinary(2))),
    }
)
SPACES = {
    "discrete": spaces.Discrete(4, start=2),
    "multi": spaces.MultiDiscrete([2, 3]),
    "grid": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "binary": spaces.MultiBinary(3),
    "tuple": spaces.Tuple((spaces.Box(-1.0, 3.0, (2, 2), np.float64), spaces.Discrete(2))),
    "dict": TREE,
}


class Says(gymnasium.Env):
    """What the last action was is what is observed; the reward is the sum of its numbers."""

    def __init__(self, space, masks=False):
        self.action_space, self.masks = SPACES[space], masks
        size = spaces.flatdim(self.action_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (1, size))
        self.last = np.zeros((1, size), np.float32)

    def _info(self):
        draw = lambda n: self.np_random.integers(2, size=n, dtype=np.int8)  # noqa: E731
        mask = {"gear": draw(3), "more": ((draw(2), draw(4)), None)}
        return {"action_mask": mask} if self.masks else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.last = 0 * self.last
        return self.last, self._info()

    def step(self, action):
        assert self.action_space.contains(action), action
        self.last = spaces.flatten(self.action_space, action).astype(np.float32)[None]
        return self.last, float(self.last.sum()), False, False, self._info()


gymnasium.register("Says-v0", Says, max_episode_steps=5)


@pytest.mark.parametrize("name", SPACES)
def test_actions_reach_the_environment_in_its_own_form(name):
    env, by_hand = envs.make("gymnasium:Says-v0", space=name), Says(name)
    spec, rng = env.actions, np.random.default_rng(0)
    state = env.reset(jax.random.split(jax.random.key(0), 3))
    assert env.obs_size == spaces.flatdim(SPACES[name]) and env.action_mask(state) is None
    for _ in range(7):
        numbers = rng.uniform(-1, 1, (3, spec.continuous))
        choices = np.stack([rng.integers(n, size=3) for n in spec.categories], axis=-1)
        action = np.concatenate([numbers, choices], axis=-1).astype(np.float32)
        state = env.step(state, action)
        for i in range(3):
            obs, reward, *_ = by_hand.step(spec.decode(action[i]))
            np.testing.assert_array_equal(state.final_obs[i], obs[0])
            np.testing.assert_allclose(state.reward[i], reward, rtol=1e-6)


def test_the_parts_of_a_space_keep_their_bounds_and_first_numbers():
    spec = action_spec(TREE, "mine")
    assert spec.parts == (2, (3, 2, 4, 2, 2)), "a Dict is in the order of its keys"
    low, high = (spec.decode(np.float32([end, end, *last])) for end, last in ((-1, (0,) * 5), (1, (2, 1, 3, 1, 1))))
    assert (low["gear"], high["gear"]) == (-1, 1) and low["gear"].dtype == np.int64
    np.testing.assert_array_equal([low["wheel"], high["wheel"]], [[0, -2], [4, 2]])
    np.testing.assert_array_equal(high["more"][0], [1, 3])
    assert TREE.contains(low) and TREE.contains(high)
    assert ActionSpec.from_json(spec.to_json()) == spec and hash(spec)
    many = spec.decode(np.zeros((5, 2, spec.size), np.float32))
    assert many["gear"].shape == (5, 2) and many["more"][1].shape == (5, 2, 2)


@pytest.mark.parametrize(
    ("space", "mask", "flat"),
    [
        (spaces.Discrete(3), np.int8([1, 0, 1]), [1, 0, 1]),
        (spaces.Discrete(3), [1, 0, 1], [1, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), (np.int8([1, 0]), np.int8([0, 1, 1])), [1, 0, 0, 1, 1]),
        (spaces.MultiDiscrete([2, 3]), np.int8([1, 0, 0, 1, 1]), [1, 0, 0, 1, 1]),
        (TREE, {"gear": np.int8([0, 0, 1])}, [0, 0, 1, *[1] * 10]),
        (TREE, {"more": ((np.int8([0, 1]), np.ones(4)), None)}, [1, 1, 1, 0, 1, *[1] * 8]),
        (SPACES["tuple"], (None, np.int8([0, 1])), [0, 1]),
        (SPACES["tuple"], np.int8([0, 1]), [0, 1]),
        (TREE, np.int8([0, 1, 1, *[1] * 10]), [0, 1, 1, *[1] * 10]),
    ],
)
def test_masks_have_gymnasiums_forms(space, mask, flat):
    np.testing.assert_array_equal(action_spec(space, "mine").flat_mask(mask), np.bool_(flat))


def test_masks_are_those_of_each_world_and_what_they_forbid_is_not_done():
    env, options = envs.make("gymnasium:Says-v0", space="dict", masks=True), {"space": "dict", "masks": True}
    by_hand = [make_one("Says-v0", options | {"max_episode_steps": 5}) for _ in range(3)]
    state = env.reset(keys := jax.random.split(jax.random.key(1), 3))
    from mjxppo.envs.batch import split_each  # as an Environment seeds its episodes

    keys, reset_keys = split_each(keys)
    seed = lambda key: int(jax.random.bits(key, (), jnp.uint32))  # noqa: E731
    infos = [one.reset(seed=seed(key))[1] for one, key in zip(by_hand, reset_keys, strict=True)]
    for step in range(7):
        np.testing.assert_array_equal(env.action_mask(state), [info["action_mask"] for info in infos])
        state = env.step(state, np.zeros((3, env.action_size), np.float32))
        results = [one.step(env.actions.decode(np.zeros(env.action_size))) for one in by_hand]
        infos = [result[4] for result in results]
        if step % 5 == 4:
            keys, reset_keys = split_each(keys)
            infos = [one.reset(seed=seed(key))[1] for one, key in zip(by_hand, reset_keys, strict=True)]


class OneArm(gymnasium.Env):
    """Only the arms that the mask allows may be pulled; the last of them pays."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(3, start=5)

    def _seen(self):
        self.blocked = int(self.np_random.integers(3))
        return self.blocked, {"action_mask": np.int8(np.arange(3) != self.blocked)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen()

    def step(self, action):
        assert action - 5 != self.blocked, "the mask forbids it"
        reward = float(action - 5 == max({0, 1, 2} - {self.blocked}))
        obs, info = self._seen()
        return obs, reward, False, False, info


gymnasium.register("OneArm-v0", OneArm, max_episode_steps=8)


def test_a_policy_learns_under_masks_and_is_evaluated_with_them(tmp_path):
    ppo = {"num_envs": 8, "block_size": 8, "rollout_length": 32, "num_minibatches": 4, "learning_rate": 0.02}
    config = {"ppo": ppo, "log": {"tensorboard": False, "every_updates": 20}, "policy": {"hidden_sizes": [8]}}
    run = mjxppo.train_policy("gymnasium:OneArm-v0", config=config, run_dir=tmp_path / "run", total_env_steps=20 * 256)
    result = run.evaluate(episodes=10)
    assert result["engine"] == "gymnasium" and result["mean"] == 8
    assert mjxppo.load_policy(tmp_path / "run")(np.eye(3)[1], mask=np.int8([1, 0, 0])) == 5


class Refused(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,))

    def __init__(self, space, info=None):
        self.action_space, self.info = space, info or {}

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), self.info


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(4), "are Text; a policy acts in Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple"),
        (spaces.Dict({"say": spaces.Text(4)}), r"are Text in \['say'\]; a policy acts in"),
        (spaces.Sequence(spaces.Discrete(2)), "are Sequence; a policy acts in"),
        (spaces.Discrete(1), r"have Discrete\(1\), of which a choice has one category; leave it out"),
        (spaces.Tuple((spaces.MultiDiscrete([2, 1]),)), r"have MultiDiscrete.* in \[0\], of which a choice has one"),
        (spaces.Discrete(70_000), "have 70000 categories; 65536 are the most"),
        (spaces.Dict({}), "An empty Dict action space is not allowed"),
        (spaces.Tuple((spaces.Box(0, 9, (2,), np.int32),)), r"\[0\] of the actions of .* are of int32"),
        (spaces.Dict({"push": spaces.Box(-np.inf, np.inf, (1,))}), r"\['push'\] of the actions of .* have no bounds"),
    ],
)
def test_other_spaces_are_refused_in_one_line(space, message, capsys, tmp_path):
    gymnasium.register("Refused-v0", Refused, kwargs={"space": space})
    try:
        assert cli.main(["train", "--env", "gymnasium:Refused-v0", "--run-dir", str(tmp_path / "run")]) == 2
    finally:
        del gymnasium.registry["Refused-v0"]
    said = capsys.readouterr().err.strip()
    with pytest.raises(UserError, match=f"env: .*{message}"):
        raise UserError(said[said.index("env: ") :])
    assert len([line for line in said.splitlines() if "env: " in line]) == 1 and not (tmp_path / "run").exists()


def test_a_mask_that_does_not_fit_is_refused_in_one_line():
    info = {"action_mask": np.int8([1, 0])}
    gymnasium.register("Masked-v0", Refused, kwargs={"space": spaces.Discrete(3), "info": info})
    with pytest.raises(UserError, match="gymnasium:Masked-v0: the action_mask has 2 entries, and the actions 3 categ"):
        envs.make("gymnasium:Masked-v0")
