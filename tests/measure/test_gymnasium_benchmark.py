"""The benchmark behind Gymnasium's interface, at a size that takes seconds."""

import pytest

from mjxppo.errors import UserError
from mjxppo.measure import gymnasium


def test_gymnasiums_own_modes_are_measured_in_turns():
    rows = gymnasium.measure_gymnasium(["hopper"], ["sync", "async"], num_envs=2, seconds=0.05, repeats=2)["results"]
    assert [row["mode"] for row in rows] == ["sync", "async"]
    assert all(row["env_steps_per_s_min"] > 0 for row in rows) and rows[0]["ratio_to_sync"] == 1


@pytest.mark.parametrize(
    "arguments, message", [((["hoper"],), "tasks: 'hoper'"), ((["hopper"], ["fast"]), "modes: 'fast'")]
)
def test_what_cannot_be_measured_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        gymnasium.measure_gymnasium(*arguments)
