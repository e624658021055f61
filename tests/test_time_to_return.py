"""When a training return counts as reached."""

from __future__ import annotations

import numpy as np

from mjxppo.benchmarks.time_to_return import averages, statistics_of


def rows(*episodes_and_returns: tuple[int, float | None]) -> list[dict]:
    return [{"episodes": count, "episode_return": value} for count, value in episodes_and_returns]


def test_a_mark_is_compared_with_the_mean_of_the_last_hundred_episodes_not_with_a_lucky_first_handful():
    history = rows((0, None), (50, 9000.0), (50, 1000.0), (100, 6000.0), (100, 8000.0))
    np.testing.assert_allclose(averages(history), [-np.inf, -np.inf, 5000, 6000, 8000])


def test_a_seed_that_never_gets_there_is_not_left_out():
    assert statistics_of([1.0, 2.0, None]) == {"median_s": 2.0, "min_s": 1.0, "max_s": None, "each_s": [1.0, 2.0, None]}
    assert statistics_of([1.0, None, None])["median_s"] is None
