"""Hundreds of configurations and command lines: every bad one is one line and exit code 2, no good one is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import tempfile
import typing
from pathlib import Path
from unittest import mock

import yaml
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st

from mjxppo import cli
from mjxppo.config.layers import settings_of_algorithm
from mjxppo.config.randomize import Spread
from mjxppo.config.schema import Config, PolicyConfig
from mjxppo.config.values import defaults_for, flatten, merge, to_dict
from mjxppo.envs.registry import TASKS
from mjxppo.run import start

CASES = {"deadline": None, "derandomize": True}
FREE = ("env", "env_options", "grid", "num_seeds", "num_devices", "algorithm", "ppo.loss", "ppo.max_kl", "ppo.kl_stop")
"""Fields that the strategies set by themselves, like those that have to fit each other."""
FITTING = (
    *("policy.init_log_std", "policy.min_log_std", "policy.final_min_log_std", "policy.hidden_sizes"),
    *("policy.critic_hidden_sizes", "ppo.num_envs", "ppo.block_size", "ppo.rollout_length", "ppo.num_minibatches"),
    *("ppo.minibatch_size", "ppo.num_microbatches", "critic.num_minibatches"),
    *("randomize.redraw", "randomize.curriculum_return", "es.worlds_per_candidate"),
    *("eval.every_env_steps", "eval.video_every", "eval.stop_at_return", "eval.patience"),
    *("init.path", "init.best", "init.carry", "init.anchor_coef", "distill.teacher", "distill.normalize_obs"),
    *(f"distill.policy.{field.name}" for field in dataclasses.fields(PolicyConfig)),
)


class Accepted(BaseException):
    """Thrown where a command line has been found good and training would begin."""

    def __init__(self, config: Config):
        self.config = config


def run(*arguments: str) -> tuple[int | Config, str, str]:
    """What becomes of a command line in an empty directory: the exit code or the configuration, and what is printed."""
    out, err = io.StringIO(), io.StringIO()

    def accept(config: Config, env: object, **_: object) -> None:
        raise Accepted(config)

    with mock.patch.object(start, "build", accept), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        before = files()
        try:
            result: int | Config = cli.main(list(arguments))
        except Accepted as accepted:
            result = accepted.config
        except SystemExit as done:
            result = int(done.code or 0)
    assert files() == before, "something was written"
    return result, out.getvalue(), err.getvalue()


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and not path.is_symlink()}


@contextlib.contextmanager
def elsewhere():
    """An empty working directory for each case."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(here)


def assert_refused(result: int | Config, out: str, err: str) -> None:
    assert result == 2, (result, err)
    assert out == "" and err.startswith("mjxppo: ") and len(err.splitlines()) == 1, err
    assert len(err) > len("mjxppo: \n")


def fields(of: type = Config, prefix: str = "") -> dict[str, typing.Any]:
    """All leaf fields of a configuration by their dotted names, with their annotations; spreads count as leaves."""
    found = {}
    for name, kind in typing.get_type_hints(of, include_extras=True).items():
        if dataclasses.is_dataclass(kind) and kind is not Spread:
            found |= fields(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = kind
    return found


FIELDS = fields()
SPREADS = sorted(name for name, kind in FIELDS.items() if kind is Spread)
SECTIONS = {
    "critic": ("vpg", "trpo", "shac"),
    **{section: (section,) for section in ("reinforce", "trpo", "shac", "es")},
}
"""The algorithms that a section of the configuration is for."""
INDEPENDENT = sorted(
    name for name in FIELDS if name not in (*FREE, *FITTING, *SPREADS) and name.split(".")[0] not in SECTIONS
)
SET_BY_ALGORITHM = ("ppo.num_epochs", "distill.")
"""Fields that only ppo leaves free, by their beginnings."""
SET_BY = {
    "ppo": (),
    "a2c": SET_BY_ALGORITHM,
    "vpg": SET_BY_ALGORITHM,
    "reinforce": (*SET_BY_ALGORITHM, "ppo.stagger_resets", "ppo.advantage_normalization", "init.critic_warmup"),
    "trpo": (
        *(*SET_BY_ALGORITHM, "ppo.entropy_coef", "ppo.learning_rate_schedule", "ppo.advantage_normalization"),
        *("init.anchor_coef", "init.step_size_warmup"),
    ),
    "es": (
        *(*SET_BY_ALGORITHM, "ppo.stagger_resets", "ppo.learning_rate_schedule", "ppo.advantage_normalization"),
        *("ppo.gae_lambda", "ppo.clip_eps", "ppo.kl_penalty", "ppo.value_clip_eps", "ppo.value_coef"),
        *("ppo.entropy_coef", "ppo.target_kl", "ppo.normalize_returns", "policy.privileged", "init.critic_warmup"),
    ),
    "shac": (
        *(*SET_BY_ALGORITHM, "ppo.entropy_coef", "ppo.advantage_normalization", "ppo.value_clip_eps"),
        "init.anchor_coef",
    ),
}
DEFAULTS = to_dict(Config(env="hopper"))


def bounds(kind: typing.Any) -> dict[str, typing.Any]:
    """The range in an annotation, as hypothesis takes it."""
    found: dict[str, typing.Any] = {}
    for mark in getattr(kind, "__metadata__", ()):
        if isinstance(mark, Ge):
            found["min_value"] = mark.ge
        if isinstance(mark, Gt):
            found |= {"min_value": mark.gt, "exclude_min": True}
        if isinstance(mark, Le):
            found["max_value"] = mark.le
        if isinstance(mark, Lt):
            found |= {"max_value": mark.lt, "exclude_max": True}
    return found


def base(kind: typing.Any) -> typing.Any:
    return typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def good_value(name: str) -> st.SearchStrategy:
    kind = FIELDS[name]
    if base(kind) is int:
        return st.integers(**bounds(kind))
    if base(kind) is float:
        return st.floats(**bounds(kind), allow_nan=False, width=32)
    if base(kind) is bool:
        return st.booleans()
    choices = list(typing.get_args(kind))
    assert choices, f"{name}: how to make values of {kind}?"
    return st.sampled_from(choices)


@st.composite
def good_configs(draw) -> dict[str, typing.Any]:
    """Any values that the types allow, and that fit each other."""
    values: dict[str, typing.Any] = {"env": draw(st.sampled_from(list(TASKS)))}
    algorithm = draw(st.sampled_from(("ppo", *SET_BY)))
    if algorithm != "ppo" or draw(st.booleans()):
        values["algorithm"] = algorithm
    free = [name for name in INDEPENDENT if not name.startswith(SET_BY[algorithm])]
    own = [name for name in FIELDS if algorithm in SECTIONS.get(name.split(".")[0], ()) and name not in FITTING]
    for name in draw(st.lists(st.sampled_from([*free, *own]), unique=True, max_size=6)):
        put(values, name, draw(good_value(name)))
    if algorithm == "ppo" and draw(st.booleans()):
        put(values, "ppo.loss", draw(st.sampled_from(("clip", "kl_penalty"))))
        put(values, "ppo.max_kl", draw(st.floats(0.001, 1.0)))
        put(values, "ppo.kl_stop", draw(st.sampled_from(("epoch", "step"))))
    if draw(st.booleans()):
        block, per_block = draw(st.sampled_from((1, 3, 16, 128))), draw(st.integers(1, 64))
        if algorithm == "es":  # in pairs
            block *= 2 * draw(st.integers(1, 3))
        put(values, "ppo.block_size", block)
        put(values, "ppo.num_envs", block * per_block)
        minibatches = draw(st.sampled_from((1, 2, 4))) if algorithm == "ppo" else 1
        length = 4 * draw(st.integers(1, 64))
        put(values, "ppo.num_minibatches", minibatches)
        put(values, "ppo.rollout_length", length)
        if algorithm in SECTIONS["critic"]:
            put(values, "critic.num_minibatches", draw(st.sampled_from((1, 2, 4))))
        put(values, "ppo.minibatch_size", draw(st.sampled_from((0, block * per_block * length // minibatches))))
        put(
            values,
            "ppo.num_microbatches",
            1 if minibatches == 4 or algorithm in ("trpo", "shac", "es") else draw(st.sampled_from((1, 2))),
        )
    if draw(st.booleans()):
        floor = draw(st.integers(-19, 0))
        put(values, "policy.min_log_std", floor)
        put(values, "policy.init_log_std", floor + draw(st.integers(1, 2)))
        put(values, "policy.hidden_sizes", draw(st.lists(st.integers(1, 512), min_size=1, max_size=4)))
    if draw(st.booleans()):
        critic = [] if algorithm == "es" else ["critic"]
        put(values, "init.carry", draw(st.sampled_from((["policy"], ["normalizer"], ["optimizer", *critic, "policy"]))))
    for name in draw(st.lists(st.sampled_from(SPREADS), unique=True, max_size=2)):
        put(values, name, draw(good_spreads(name)))
    if draw(st.booleans()):
        every = draw(st.integers(1, 2**31))
        put(values, "eval.every_env_steps", every)
        put(values, "eval.video_every", draw(st.integers(0, 10)))
        put(values, "eval.patience", draw(st.integers(0, 10)))
        put(values, "eval.stop_at_return", draw(st.floats(-1e6, 1e6, width=32)))
        put(values, "total_env_steps", every + draw(st.integers(1, 2**31)))
    redraw = draw(st.sampled_from((None, "episode", "never")))
    if redraw is not None:
        put(values, "randomize.redraw", redraw)
    if redraw != "never" and draw(st.booleans()):
        put(values, "randomize.curriculum_return", draw(st.floats(-1e6, 1e6, width=32)))
    return values


SCALED = ("mass", "inertia", "size", "strength", "gravity")
ADDED = ("slope", "observation_bias")
SHARED = ("size", "friction", "gravity", "slope")


@st.composite
def good_spreads(draw, name: str) -> dict[str, typing.Any]:
    """A quantity that varies as it may."""
    quantity = name.removeprefix("randomize.")
    operation = (
        "scale" if quantity in SCALED else "add" if quantity in ADDED else draw(st.sampled_from(("scale", "add")))
    )
    distribution = draw(st.sampled_from(("uniform", "log_uniform", "normal")))
    least = 2.0**-10 if distribution == "log_uniform" or quantity in ("mass", "inertia", "size") else 0.0
    numbers = st.floats(-1e6 if operation == "add" and least == 0 else least, 1e6, width=32)
    low, high = sorted(draw(st.tuples(numbers, numbers)))
    spread = {"distribution": distribution, "low": low, "high": high, "operation": operation}
    return spread if quantity in SHARED else spread | {"each": draw(st.booleans())}


@st.composite
def bad_spreads(draw, name: str) -> dict[str, typing.Any]:
    """A quantity that varies as it may but for one thing."""
    quantity, spread = name.removeprefix("randomize."), draw(good_spreads(name))
    wrong: list[dict[str, typing.Any]] = [
        {"low": spread["high"] + 1, "high": spread["high"]},
        {"distribution": "log_uniform", "low": 0.0},
        {"distribution": "gaussian"},
        {"high": 1e7},
        {"low": math.nan},
        {"each": "some"},
        {"hihg": 1.0},
    ]
    if spread["operation"] == "scale":
        wrong.append({"low": -0.5})
    if quantity in ("mass", "inertia", "size"):
        wrong.append({"low": 0.0})
    if quantity in (*SCALED, *ADDED):
        wrong.append({"operation": "scale" if quantity in ADDED else "add"})
    if quantity in SHARED:
        wrong.append({"each": True})
    return spread | draw(st.sampled_from(wrong))


def put(values: dict, name: str, value: typing.Any) -> None:
    *sections, field = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[field] = value


def as_options(values: dict, prefix: str = "") -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        option = f"--{prefix}{name}".replace("_", "-")
        if isinstance(value, dict):
            words += as_options(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            words.append(option if value else f"--{prefix}no-{name}".replace("_", "-"))
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        else:
            words += [f"{option}={value}"]
    return words


@settings(max_examples=150, **CASES)
@given(good_configs(), st.booleans())
def test_no_good_configuration_is_refused(values, in_a_file):
    with elsewhere():
        if in_a_file or "randomize" in values:  # which has no options: it takes a file
            Path("config.yaml").write_text(yaml.safe_dump(values))
            result, _, err = run("train", "--config", "config.yaml")
        else:
            result, _, err = run("train", *as_options(values))
        assert isinstance(result, Config), err
        shipped = merge(defaults_for(values["env"]), settings_of_algorithm(values.get("algorithm", "ppo")))
        asked = flatten(merge(shipped, values))
        got = flatten(to_dict(result))
        assert {name: got[name] for name in asked} == asked


WRONG = st.one_of(
    st.none(),
    st.text(max_size=8).filter(lambda text: text not in ("", "0", "1")),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), min_size=1, max_size=2),
    st.sampled_from([math.nan, math.inf, -math.inf, -(10**30), 10**30]),
)


@st.composite
def bad_configs(draw) -> dict[str, typing.Any]:
    """A good configuration with one thing wrong."""
    values = draw(good_configs())
    name = draw(st.sampled_from([name for name in INDEPENDENT if base(FIELDS[name]) in (int, float)]))
    limits = bounds(FIELDS[name])
    kind = draw(st.sampled_from(("type", "name", "section", "low", "high", "spread", "misfit")))
    if kind == "type":
        put(values, name, draw(WRONG.filter(lambda value: not could_be_a_number(value, limits))))
    elif kind == "name":
        put(values, name[:-1] + draw(st.sampled_from(("x", "_2", ""))), 1)
    elif kind == "section":
        section = draw(
            st.sampled_from(
                ("ppo", "policy", "log", "checkpoint", "eval", "physics", "randomize", "init", "distill", *SPREADS)
            )
        )
        put(values, section, draw(WRONG.filter(lambda value: not isinstance(value, dict))))
    elif kind == "low":
        put(values, name, limits["min_value"] - draw(st.integers(1, 10**6)))
    elif kind == "high":
        put(values, name, limits.get("max_value", 2**64) + draw(st.integers(1, 10**6)))
    elif kind == "spread":
        name = draw(st.sampled_from(SPREADS))
        put(values, name, draw(bad_spreads(name)))
    else:
        fitting = {"ppo.num_minibatches": 10007, "ppo.block_size": 1009, "num_devices": 7 * 11 * 13}
        put(values, *draw(st.sampled_from(sorted(fitting.items()))))
        values.get("ppo", {}).pop("minibatch_size", None)  # given, it replaces num_minibatches
    return values


def test_the_cases_reach_every_field_of_a_configuration():
    of_one_algorithm = [name for name in FIELDS if name.split(".")[0] in SECTIONS]
    known = {*FREE, *FITTING, *SPREADS, *INDEPENDENT, *of_one_algorithm}
    assert set(FIELDS) == known
    assert all(name.startswith("randomize.") for name in SPREADS) and len(SPREADS) == 11


def could_be_a_number(value: typing.Any, limits: dict) -> bool:
    try:
        return limits.get("min_value", -math.inf) <= float(value) <= limits.get("max_value", math.inf)
    except (TypeError, ValueError):
        return False


@settings(max_examples=150, **CASES)
@given(bad_configs())
def test_every_configuration_with_one_thing_wrong_is_refused(values):
    with elsewhere():
        Path("config.yaml").write_text(yaml.safe_dump(values))
        assert_refused(*run("train", "--config", "config.yaml"))


YAML_LINES = st.sampled_from(
    [
        *(
            "env: hopper",
            "env: [",
            "ppo: {gamma: 0.5}",
            "ppo: {gamma: 2}",
            "- a",
            "? [a]",
            "&x a: *x",
            "a: &x [*x]",
            "\t",
        ),
        *("!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system", "seed: 0x", "seed: !!int ''"),
        *(
            "seed: 2001-99-99",
            f"seed: {'9' * 5000}",
            "seed: 1_000",
            "seed: 1e3",
            "b: !!binary x",
            "<<: {a: 1}",
            "---",
            "...",
        ),
        *("l1: &l1 [x,x,x,x,x,x,x,x,x]", "l2: &l2 [*l1,*l1,*l1,*l1,*l1,*l1]", "%YAML 9.9", "ppo: null", "env: null"),
        *("[" * 300, "{a: " * 300, "env: hopper\x00", "env: \ud7ff", "ppo:\n  gamma: 0.5", "ppo:\n gamma: .nan", '"'),
    ]
)


@settings(max_examples=150, **CASES)
@given(st.lists(YAML_LINES, max_size=5), st.binary(max_size=6))
def test_no_file_is_worse_than_refused(lines, noise):
    with elsewhere():
        Path("config.yaml").write_bytes("\n".join(lines).encode() + noise)
        result, out, err = run("train", "--config", "config.yaml")
        if not isinstance(result, Config):
            assert_refused(result, out, err)


WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "--help",
                "-h",
                "--resume",
                "--run-dir",
                "--config",
                "--set-from",
                "--env",
                "hopper",
                "halfcheetah",
                "brax:x",
            ),
            *(
                "--env=hopper",
                "--ppo.gamma",
                "0.9",
                "1e400",
                "nan",
                "--ppo.gamma=",
                "--num-seeds",
                "2",
                "-1",
                "--",
                "-",
                "=",
            ),
            *("--env-options.", "--env-options.x", "--env-options.ctrl-cost-weight=[", "--grid", "ppo.gamma=0.9,0.99"),
            *(
                "--grid=ppo.gamma=",
                "--ppo.no-baseline",
                "--policy.hidden-sizes",
                "64",
                "no-such",
                "/",
                ".",
                "..",
                "~",
                "\0",
            ),
            *(
                "--out",
                "x.mp4",
                "--engine",
                "gymnasium",
                "--episodes",
                "0",
                "--seed",
                str(2**64),
                "--total-env-steps",
                "1e99",
            ),
            *(
                "--run-dir=/proc/1/x",
                "--config=/dev/null",
                "--config=.",
                "--out=/no/such/x.gif",
                "policy",
                "everything",
            ),
        ]
    ),
    st.text(max_size=6),
)
COMMANDS = (
    "train",
    "sweep",
    "distill",
    "record",
    "clone",
    "view",
    "evaluate",
    "render",
    "export",
    "plot",
    "report",
    "watch",
    "config",
    "replay",
    "completion",
    "trian",
    "",
)


@settings(max_examples=200, **CASES)
@given(st.sampled_from(COMMANDS), st.lists(WORDS, max_size=5))
def test_no_command_line_is_worse_than_refused(command, words):
    with elsewhere():
        result, out, err = run(command, *words)
        if not isinstance(result, Config) and result != 0:
            assert_refused(result, out, err)


def test_the_cases_reach_every_command_but_those_that_would_begin_long_work():
    assert set(cli.COMMANDS) - set(COMMANDS) == {"study", "benchmark", "doctor"}


def test_that_makes_at_least_500_cases():
    tests = [value for name, value in globals().items() if name.startswith("test_") and hasattr(value, "hypothesis")]
    assert sum(test._hypothesis_internal_use_settings.max_examples for test in tests) >= 500
