"""Environments of other libraries that break their rules: they work, or one line names what is wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from mjxppo import cli, envs
from mjxppo.envs.foreign.adapted import make_one
from mjxppo.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


class Plain(gymnasium.Env):
    """A point on a line; subclasses have one oddity."""

    observation_space: Any = Box(-np.inf, np.inf, (2,))
    action_space: Any = Box(-1, 1, (1,))
    steps = 0

    def obs(self):
        return np.array([self.p, 1], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.p, self.steps = float(self.np_random.uniform(-1, 1)), 0
        return self.obs(), {}

    def step(self, action):
        self.steps += 1
        self.p += 0.1 * float(np.asarray(action).ravel()[0])
        return self.obs(), -abs(self.p), False, False, {}


def odd(**parts):
    return type("Odd", (Plain,), parts)


def with_result(index, value):
    def step(self, action):
        results = list(Plain.step(self, action))
        results[index] = value
        return tuple(results)

    return odd(step=step)


def fails(self, action):
    raise RuntimeError("motor 3\nis hot")


def keys_change(self):
    return {"a": np.zeros(2, np.float32)} | ({} if self.steps else {"b": np.zeros(1, np.float32)})


REFUSED = {
    "no numbers": (odd(action_space=Box(-1, 1, (0,))), "the actions of .* have no numbers"),
    "float32's largest": (odd(action_space=Box(-3e38, 3e38, (1,))), "have no bounds to scale .*: component 0"),
    "float64": (odd(action_space=Box(-1e300, 1e300, (1,), np.float64)), "have no bounds to scale"),
    "no spaces": (odd(action_space=None), "cannot be made: action space does not inherit"),
    "no reward": (with_result(1, None), "the reward of .* is None; it must be a number"),
    "text": (with_result(1, "1.5"), "the reward of .* is '1.5'; it must be a number"),
    "info": (with_result(4, None), "step of .* fails: AssertionError: The `info`"),
    "four results": (odd(step=lambda self, a: Plain.step(self, a)[:4]), r"step of .* fails: \w+Error: "),
    "no seed": (odd(reset=lambda self: (np.zeros(2), {})), "reset of .* fails: TypeError: .*'seed'"),
    "fails": (odd(step=fails), "step of .* fails: RuntimeError: motor 3 is hot"),
    "floats as bytes": (
        odd(observation_space=Box(0, 255, (2,), np.uint8), obs=lambda self: np.array([0.5, 1])),
        "the observation of .* after reset is of float64; its space says uint8",
    ),
    "keys": (
        odd(observation_space=Dict(a=Box(-1, 1, (2,)), b=Box(-1, 1, (1,))), obs=keys_change),
        "step of .* fails: AssertionError: .* observation keys",
    ),
    "mask": (
        odd(
            action_space=Discrete(2), step=lambda self, a: (*Plain.step(self, a)[:4], {"action_mask": np.int8([1, 0])})
        ),
        "gives an action_mask after step only; give it in the info of reset",
    ),
}


@pytest.fixture
def registered(request):
    gymnasium.register("Odd-v1", request.param, max_episode_steps=20)
    yield "gymnasium:Odd-v1"
    del gymnasium.registry["Odd-v1"]


@pytest.mark.parametrize(("registered", "message"), REFUSED.values(), ids=REFUSED, indirect=["registered"])
def test_what_cannot_be_is_refused_in_one_line_that_names_it(registered, message):
    with pytest.raises(UserError, match=f"^env: .*{message}") as refused:
        envs.make(registered)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("registered", [odd(action_space=Box(-2, 2, ()))], indirect=True)
def test_an_action_that_is_one_number_without_a_shape_works(registered):
    env = envs.make(registered)
    state = env.step(env.reset(jax.random.split(jax.random.key(0), 2)), jnp.full((2, 1), 0.5))
    assert np.isfinite(state.reward).all()


@pytest.mark.parametrize(
    "registered", [odd(obs=lambda self: np.zeros(2 if self.steps < 4 else 3, np.float32))], indirect=True
)
def test_an_observation_whose_shape_changes_later_is_named(registered, tmp_path, capfd):
    one = make_one("Odd-v1", {})
    one.reset(seed=0)
    with pytest.raises(
        UserError, match=r"the observation of gymnasium:Odd-v1 after step is \[3\]; its space says \[2\]"
    ):
        for _ in range(5):
            one.step(np.zeros(1, np.float32))
    small = ["--ppo.num-envs=4", "--ppo.block-size=4", "--ppo.rollout-length=8", "--ppo.num-minibatches=2"]
    small += ["--total-env-steps=64", "--policy.hidden-sizes=8", "--run-dir", str(tmp_path / "run")]
    assert cli.main(["train", "--env", registered, *small]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mjxppo: training stopped")]
    assert "failed on the host: UserError: env: the observation of gymnasium:Odd-v1 after step is [3]" in line


class State(NamedTuple):
    p: Any
    obs: Any
    reward: Any
    done: Any
    info: Any = None


class InBraxForm:
    """A point on a line in Brax's form; subclasses have one oddity."""

    action_size: Any = 1

    def state(self, p, **parts):
        return State(p, **({"obs": jnp.stack([p, p]), "reward": -p, "done": False} | parts))

    def reset(self, key):
        return self.state(jax.random.uniform(key, ()))

    def step(self, state, action):
        return self.state(state.p + action[0])


def brax_form(**parts):
    return type("Odd", (InBraxForm,), parts)()


REFUSED_BRAX = {
    "class": (InBraxForm, r"InBraxForm is a class; pass an object of it, such as InBraxForm\(\)"),
    "tuple": (brax_form(reset=lambda self, key: (jnp.zeros(2), {})), "reset of Odd gives a tuple without obs"),
    "nothing": (brax_form(step=lambda self, state, action: None), "step of Odd gives a NoneType without obs"),
    "text": (
        brax_form(reset=lambda self, key: self.state(jnp.zeros(()), info="a")),
        "reset of Odd cannot be traced by JAX: TypeError",
    ),
    "branch": (
        brax_form(step=lambda self, state, action: state if state.p > 0 else None),
        "step of Odd cannot be traced by JAX: TracerBoolConversionError: Attempted boolean conversion",
    ),
    "fails": (brax_form(step=lambda self, state, action: 1 / 0), "step of Odd cannot be traced by JAX: ZeroDivision"),
    "fraction": (brax_form(action_size=1.5), "action_size of Odd: must be a whole number, not 1.5"),
    "no action": (brax_form(action_size=0), "action_size of Odd: must be at least 1, not 0"),
    "seconds": (brax_form(dt="slow"), "dt of Odd: must be a number of seconds, not 'slow'"),
    "complex": (
        brax_form(step=lambda self, state, action: self.state(state.p, reward=1j)),
        "Odd's state has reward that is complex",
    ),
    "privileged": (
        brax_form(state=lambda self, p: State(p, {"state": p[None], "privileged_state": p[None, None]}, p, False)),
        "Odd must observe a vector as 'privileged_state'",
    ),
}


@pytest.mark.parametrize(("env", "message"), REFUSED_BRAX.values(), ids=REFUSED_BRAX)
def test_what_is_not_of_braxs_form_is_refused_in_one_line_that_names_it(env, message):
    with pytest.raises(UserError, match=f"^env: {message}") as refused:
        envs.make(env)
    assert "\n" not in str(refused.value)


def test_an_infinite_observation_is_bounded_and_a_world_that_is_nan_is_broken():
    def state_of(value):
        return lambda self, p: State(p, jnp.stack([p, value]), -p, False)

    for value, broken in ((jnp.inf, False), (jnp.nan, True)):
        env = envs.make(brax_form(state=state_of(value)))
        state = env.step(env.reset(jax.random.split(jax.random.key(0), 2)), jnp.zeros((2, 1)))
        assert state.nonfinite.tolist() == [broken] * 2
        if not broken:
            assert state.obs[0, 1] == 1e10 and env.metrics(state)["obs_bounded"].tolist() == [1, 1]
