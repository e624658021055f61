"""Numbers that are not finite: an error in one line where they arise, of a checkpoint, a policy or an evaluation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from toy import PointMass

from mjxppo import cli
from mjxppo.config.schema import Config, PolicyConfig
from mjxppo.envs import Environment
from mjxppo.errors import UserError
from mjxppo.policy.evaluate import evaluate, evaluate_in
from mjxppo.policy.export import export
from mjxppo.policy.npz import read_npz
from mjxppo.policy.policy import Policy, from_checkpoint
from mjxppo.run import checkpoint
from mjxppo.run.loop import TrainingFailed

BAD = [np.nan, np.inf, -np.inf]


def policy(**changes) -> Policy:
    layers = ((np.ones((11, 4), "f"), np.zeros(4, "f")), (np.ones((4, 3), "f"), np.zeros(3, "f")))
    made = {"obs_mean": np.zeros(11, "f"), "obs_scale": np.ones(11, "f"), "obs_clip": 10.0, "layers": layers}
    return Policy(**made | {"activation": "tanh"} | changes)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("part", ["obs_mean", "obs_scale", "weight_0", "bias_1"])
def test_no_policy_holds_them(part, bad, tmp_path):
    sound = policy()
    path = tmp_path / "policy.npz"
    export(sound, "hopper", path)
    content = dict(np.load(path))
    content[part] = content[part].copy()
    content[part].flat[1] = bad
    np.savez(path, **content)
    with pytest.raises(UserError, match=rf"policy.npz: is damaged: policy: {part} holds numbers that are not finite$"):
        read_npz(path)
    assert cli.main(["evaluate", str(path)]) == 2
    layers = tuple((content[f"weight_{i}"], content[f"bias_{i}"]) for i in range(2))
    with pytest.raises(UserError, match=f"policy: {part} "):
        policy(obs_mean=content["obs_mean"], obs_scale=content["obs_scale"], layers=layers)


def arrays(**changes) -> dict[str, np.ndarray]:
    actor = "learner/params/params/actor/mlp"
    made = {
        f"{actor}/hidden_0/kernel": np.ones((3, 4), "f"),
        f"{actor}/hidden_0/bias": np.zeros(4, "f"),
        f"{actor}/head/kernel": np.ones((4, 4), "f"),
        f"{actor}/head/bias": np.zeros(4, "f"),
        "learner/obs_moments/mean": np.zeros(3, "f"),
        "learner/obs_moments/var": np.ones(3, "f"),
    }
    return made | {name.replace("__", "/"): value for name, value in changes.items()}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_normaliser_whose_variance_is_none_makes_no_policy(bad):
    config = Config(env="hopper", policy=PolicyConfig(hidden_sizes=(4,)))
    assert from_checkpoint(arrays(), config).obs_scale[0] == pytest.approx(1)
    broken = arrays(learner__obs_moments__var=np.array([1, bad, 1], "f"))
    with pytest.raises(UserError, match=r"^policy: the variance of its observations"):
        from_checkpoint(broken, config)
    unused = replace(config, ppo=replace(config.ppo, normalize_obs=False))
    from_checkpoint(broken, unused)


@pytest.mark.parametrize("bad", BAD)
def test_no_checkpoint_holds_them_in_what_is_learned(bad, tmp_path):
    state = {"learner": {"params": jnp.ones(3), "updates": jnp.int32(1)}, "env_state": jnp.array([1, bad])}
    writer = checkpoint.CheckpointWriter(tmp_path / "ckpt", Config(env="hopper"))
    writer.save(3, state, 1.0)  # a world may break
    state["learner"]["params"] = jnp.array([1, bad, 1])
    with pytest.raises(
        TrainingFailed, match=r"^learner/params is not finite after 6 updates.*last good checkpoint is 3$"
    ):
        writer.save(6, state, 1.0)
    writer.close()
    assert checkpoint.steps(tmp_path / "ckpt") == [3]


def test_a_checkpoint_with_them_of_an_earlier_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "nonfinite_array", lambda arrays: None)
    writer = checkpoint.CheckpointWriter(tmp_path / "ckpt", Config(env="hopper"))
    writer.save(3, {"learner": {"params": jnp.array([1, np.nan])}}, 1.0)
    writer.close()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"^checkpoint: .*/3: learner/params holds numbers that are not finite"):
        checkpoint.read(tmp_path / "ckpt/3")


def test_an_evaluation_of_a_policy_that_returns_them_is_an_error():
    late = SimpleNamespace(calls=0)

    def act(obs):
        late.calls += 1
        return np.full((len(obs), 3), np.nan if late.calls > 5 else 0.0)

    with pytest.raises(UserError, match=r"^policy: its action for a finite observation is not finite$"):
        evaluate(act, Config(env="hopper"), "gymnasium", 1, 0)
    with pytest.raises(UserError, match=r"^policy: its action for a finite observation is not finite$"):
        evaluate_in(Environment(PointMass()), lambda obs: np.full((len(obs), 2), np.inf), 3, seed=0)
