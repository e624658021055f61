"""Configurations: every shipped one is good, and every bad one is refused with one line that names the field."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.values import configs_dir, from_dict, read_named, read_yaml, to_dict, to_yaml
from mjxppo.errors import UserError

SHIPPED = sorted(configs_dir().glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_good_and_survive_being_printed_and_read(path, tmp_path):
    config = make_config(read_yaml(path))
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert from_dict(read_yaml(copy)) == config


def test_every_task_has_a_shipped_config():
    assert {path.stem for path in SHIPPED} >= {"hopper", "half_cheetah", "walker2d"}


BAD = [
    ({}, "env: must be given"),
    ({"env": "hopper", "ppo": {"num_env": 3}}, "ppo.num_env: no such field; did you mean ppo.num_envs?"),
    ({"env": "hopper", "pppo": {}}, "pppo: no such field; did you mean ppo?"),
    ({"env": "hopper", "ppo": 3}, "ppo: must be a mapping"),
    ({"env": "hopper", "ppo": {"num_envs": "many"}}, "ppo.num_envs: input should be a valid integer"),
    ({"env": "hopper", "ppo": {"num_envs": True}}, "ppo.num_envs: must be a number"),
    ({"env": "hopper", "ppo": {"normalize_obs": 1}}, "ppo.normalize_obs: must be true or false"),
    ({"env": "hopper", "policy": {"final_min_log_std": -3.0}}, "policy.final_min_log_std: the floor moves only"),
    ({"env": "hopper", "ppo": {"num_envs": 0}}, "ppo.num_envs: input should be greater than or equal to 1"),
    ({"env": "hopper", "ppo": {"gamma": 1.01}}, "ppo.gamma: input should be less than or equal to 1"),
    ({"env": "hopper", "ppo": {"gamma": float("nan")}}, "ppo.gamma"),
    ({"env": "hopper", "ppo": {"learning_rate": float("inf")}}, "ppo.learning_rate"),
    ({"env": "hopper", "ppo": {"adam_b1": 1.0}}, "ppo.adam_b1: input should be less than 1"),
    ({"env": "hopper", "ppo": {"num_minibatches": 7}}, "ppo.num_minibatches: 7 does not divide"),
    (
        {
            "env": "hopper",
            "ppo": {"minibatch_size": 1, "num_envs": 8, "block_size": 8, "advantage_normalization": "minibatch"},
        },
        "ppo.advantage_normalization: must be batch or none with minibatches of one sample",
    ),
    ({"env": "hopper", "ppo": {"block_size": 100}}, "ppo.block_size: 100 does not divide"),
    ({"env": "hopper", "policy": {"activation": "gelu"}}, "policy.activation: input should be 'tanh'"),
    ({"env": "hopper", "policy": {"hidden_sizes": [64, 0]}}, "policy.hidden_sizes.1"),
    ({"env": "hopper", "policy": {"min_log_std": 0.0}}, "policy.min_log_std: must be below policy.init_log_std"),
    ({"env": "hopper", "checkpoint": {"keep_latest": 1}}, "checkpoint.keep_latest"),
    ({"env": "hopper", "num_devices": 3}, "num_devices: 3 does not divide"),
    ({"env": "hopper", "seed": -1}, "seed: input should be greater than or equal to 0"),
    ({"env": "hopper", "total_env_steps": 0}, "total_env_steps"),
    ({"env": "hopper", "physics": {"backend": "bullet"}}, "physics.backend: input should be 'auto'"),
    ({"env": "hopper", "ppo": {"num_envs": 2**20, "rollout_length": 2**14}}, "must stay below"),
]


@pytest.mark.parametrize("values, message", BAD, ids=[message[:40] for _, message in BAD])
def test_bad_values_are_refused_with_one_line_naming_the_field(values, message):
    with pytest.raises(UserError) as error:
        make_config(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("env: [hopper", "not valid YAML at line"),
        ("- env\n- hopper", "must hold a mapping"),
        ("1: 2", "must hold a mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("env: !!python/name:os.system x", "not valid YAML"),
        ("env: \x00", "not valid YAML"),
    ],
)
def test_files_that_are_no_configs_are_refused_and_execute_nothing(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot read"):
        read_yaml(tmp_path)


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text("env: hopper\ntotal_env_steps: 1e6\nppo: {learning_rate: 3e-4, adam_eps: 1.e-5}\n")
    config = from_dict(read_yaml(path))
    assert (config.total_env_steps, config.ppo.learning_rate, config.ppo.adam_eps) == (10**6, 3e-4, 1e-5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = list(to_dict(Config(env="hopper"))) + list(to_dict(Config(env="hopper"))["ppo"])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)
def test_nothing_but_a_user_error_ever_comes_of_strange_values(top, ppo):
    for values in (top, {"env": "hopper", "ppo": ppo}, {"env": "hopper", **top}):
        try:
            make_config(values)
        except UserError as error:
            assert str(error)


def test_a_shipped_configuration_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_named("hopper_30m")["total_env_steps"] == 30_000_000
    with pytest.raises(UserError, match="did you mean half_cheetah_50m"):
        read_named("half_cheetah_5m")
    (tmp_path / "hopper_30m").write_text("env: walker2d")
    assert read_named("hopper_30m") == {"env": "walker2d"}, "a file of one's own comes first"
    with pytest.raises(UserError, match=r"there is no file mine\.yaml"):
        read_named("mine.yaml")
