"""Worlds by the ten thousand: minibatches keep their size, gradients are summed up from parts, memory is foreseen."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from toy import PointMass

from mjxppo.config.check import make_config
from mjxppo.config.schema import minibatches_per_epoch
from mjxppo.config.values import merge
from mjxppo.errors import UserError
from mjxppo.ppo import counters
from mjxppo.run import memory, start
from mjxppo.run.arrays import named_arrays

SMALL = {"num_envs": 32, "block_size": 4, "rollout_length": 8, "num_epochs": 2, "learning_rate": 3e-3}


def config_with(**changes):
    values = {"env": "hopper", "log": {"every_updates": 1}, "policy": {"hidden_sizes": [16, 16]}}  # a toy stands in
    return make_config(merge(values, changes))


def after_updates(num_devices: int = 2, **ppo) -> dict[str, np.ndarray]:
    program = start.build(config_with(num_devices=num_devices, ppo=SMALL | ppo), PointMass())
    state, total = program.init(), program.budget(10**6)
    for _ in range(2):
        state, _ = program.train_chunk(state, total)
    return named_arrays(state.learner)


def test_a_minibatch_keeps_its_size_while_worlds_are_added():
    for num_envs in (256, 1024, 16_384, 131_072):
        ppo = config_with(ppo={"num_envs": num_envs, "rollout_length": 32, "minibatch_size": 2048}).ppo
        assert minibatches_per_epoch(ppo) == num_envs * 32 // 2048
    assert minibatches_per_epoch(config_with().ppo) == 16, "as configured, without it"


def test_a_minibatch_size_is_the_same_training_as_that_number_of_minibatches():
    by_number, by_size = after_updates(num_minibatches=8), after_updates(minibatch_size=32)
    assert all(np.array_equal(by_number[name], by_size[name]) for name in by_number)


@pytest.mark.exhaustive
@pytest.mark.parametrize("normalization", ["batch", "minibatch"])
def test_gradients_summed_up_from_parts_are_the_same_gradients(normalization):
    whole = after_updates(num_minibatches=4, advantage_normalization=normalization)
    parts = after_updates(num_minibatches=4, advantage_normalization=normalization, num_microbatches=2)
    devices = after_updates(4, num_minibatches=4, advantage_normalization=normalization, num_microbatches=2)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=2e-3, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(devices[name], parts[name], rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("ppo", "message"),
    [
        ({"minibatch_size": 100}, "ppo.minibatch_size: 100 samples .* 128 would do"),
        ({"minibatch_size": 10**9}, "ppo.minibatch_size: 1000000000 samples .* 32768 would do"),
        ({"minibatch_size": 3}, "ppo.minibatch_size: 3 samples"),
        ({"num_microbatches": 7}, "ppo.num_microbatches: 7 does not divide .* 256; 8 would do"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line_with_one_that_does(ppo, message):
    with pytest.raises(UserError, match=message):
        config_with(ppo=ppo)
    fitting = config_with(ppo={"num_microbatches": 8, "num_minibatches": 8})
    assert minibatches_per_epoch(fitting.ppo) == 8


def test_parts_of_minibatches_need_less_memory():
    def estimated(**ppo):
        return memory.estimate(start.build(config_with(ppo=ppo), PointMass())).minibatch

    assert estimated(num_microbatches=8) == pytest.approx(estimated() / 8)
    assert estimated(num_envs=65_536, minibatch_size=2048) == pytest.approx(estimated())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_65536_worlds_train_on_a_cpu_and_fit_the_estimate(monkeypatch):
    monkeypatch.setattr(memory, "available_on_host", lambda: 16 * 2**30)  # whatever else this machine is doing
    values = {
        "env": "half_cheetah",
        "num_devices": 2,
        "log": {"every_updates": 1},
        "ppo": {"num_envs": 65_536, "rollout_length": 4, "minibatch_size": 16_384, "num_epochs": 1},
    }
    program = start.build(make_config(values))
    memory.check_fits(program)
    steps = 2 * 65_536 * 4 - 1000
    state, total = program.init(), program.budget(steps)
    compiled = program.lower().compile()
    needed = compiled.memory_analysis()
    assert (
        program.layout.num_devices * (needed.argument_size_in_bytes + needed.temp_size_in_bytes)
        < memory.estimate(program).device
    )
    for _ in range(2):
        state, metrics = compiled(state, total)
    assert counters.to_int(state.env_steps) == steps
    assert int(np.asarray(metrics["nonfinite_steps"]).sum()) == 0
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.learner))
