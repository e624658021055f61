"""The physics benchmark measures what it says, on a small scale."""

import json

import pytest

from mjxppo.benchmarks import physics
from mjxppo.errors import UserError
from mjxppo.physics.mjx.model import compiler_aborts


@pytest.mark.skipif(compiler_aborts(), reason="XLA of this JAX aborts on MJX with multi-output fusion")
def test_measures_every_backend_and_relates_them_to_c():
    report = physics.run(tasks=["half_cheetah"], backends=["c", "mjx"], num_worlds=64, num_steps=2, repeats=2)
    c, ours = report["results"]
    assert (c["backend"], ours["backend"]) == ("c", "mjx")
    assert c["ratio_to_c"] == 1
    assert ours["ratio_to_c"] == pytest.approx(ours["env_steps_per_s"] / c["env_steps_per_s"])
    assert ours["ratio_to_stock"] is None
    assert ours["compile_s"] > 0
    assert {"jax", "mujoco"} <= set(report["versions"])
    json.dumps(report)


@pytest.mark.parametrize(
    ("bad", "field"),
    [({"tasks": ["cheetah"]}, "tasks"), ({"backends": ["fast"]}, "backends"), ({"num_worlds": 7}, "num_worlds")],
)
def test_bad_input_names_the_field(bad, field):
    with pytest.raises(UserError, match=field):
        physics.run(**bad)
