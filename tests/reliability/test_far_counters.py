"""A run that passes 2^31 and 2^32 environment steps counts, logs, schedules and resumes exactly."""

from __future__ import annotations

import csv

import pytest
from toy import PointMass

from mjxppo.config.check import make_config
from mjxppo.config.values import merge
from mjxppo.ppo import counters
from mjxppo.run import loop, start
from mjxppo.run.metrics import CSV, read_rows

VALUES = {
    "env": "hopper",
    "policy": {"hidden_sizes": [8]},
    "ppo": {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 1},
    "log": {"every_updates": 3},
    "checkpoint": {"every_updates": 3},
    "num_devices": 2,
}


@pytest.mark.parametrize("taken_before", [2**31 - 300, 2**32 - 300])
def test_a_run_is_exact_past_every_32_bit_limit(tmp_path, taken_before):
    def part(total: int, resume: bool) -> loop.Outcome:
        config = make_config(merge(VALUES, {"total_env_steps": total}))
        program = start.build(config, PointMass())
        init = program.init
        program.init = lambda: program.place(init().replace(env_steps=counters.make(taken_before)))
        return loop.train(program, tmp_path, resume)

    first = part(taken_before + 1000, resume=False)
    assert (first.env_steps, first.new_env_steps) == (taken_before + 1000, 1000)
    second = part(taken_before + 1500, resume=True)
    assert (second.env_steps, second.new_env_steps) == (taken_before + 1500, 500)
    expected = [taken_before + taken for taken in (256, 512, 768, 1000, 1256, 1500)]
    rows = read_rows(tmp_path)
    assert [row["env_steps"] for row in rows] == expected
    with (tmp_path / CSV).open() as file:
        assert [int(row["env_steps"]) for row in csv.DictReader(file)] == expected
    rate = 3e-4 * (1 - taken_before / (taken_before + 1000))
    assert rows[0]["learning_rate"] == pytest.approx(rate, rel=0.5), "a linear schedule knows how far the run is"
