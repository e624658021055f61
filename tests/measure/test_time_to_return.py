"""When a return counts as reached."""

from __future__ import annotations

import time

import pytest

from mjxppo.measure.time_to_return import Point, first_times, measure_time_to_return, statistics_of


def test_a_mark_is_reached_by_the_first_checkpoint_with_that_return():
    points = [Point(1, 10, 900.0), Point(2, 20, 3100.0), Point(3, 30, 2000.0), Point(4, 40, 5200.0)]
    assert first_times([1000, 5000, 6000], points) == {1000: points[1], 5000: points[3], 6000: None}


def test_checkpoints_after_the_last_mark_are_not_evaluated():
    def points():
        yield Point(1, 10, 900.0)
        raise AssertionError("asked for more")

    assert first_times([500, 800], points())[800] == Point(1, 10, 900.0)


def test_a_seed_that_never_gets_there_is_not_left_out():
    one, two = Point(1.0, 10, 0), Point(2.0, 20, 0)
    statistics = {
        "median_s": 2.0,
        "min_s": 1.0,
        "max_s": None,
        "each_s": [1.0, 2.0, None],
        "each_env_steps": [10, 20, None],
    }
    assert statistics_of([one, two, None]) == statistics
    assert statistics_of([one, None, None])["median_s"] is None


@pytest.mark.usefixtures("compiled_quickly")
def test_the_seconds_of_a_real_run_count_from_the_start_of_its_process():
    options = ["--total-env-steps", "128", "--ppo.num-envs", "2", "--ppo.block-size", "2", "--ppo.rollout-length", "32"]
    options += ["--ppo.num-minibatches", "1", "--log.every-updates", "1", "--log.no-tensorboard"]
    started = time.perf_counter()
    (row,) = measure_time_to_return("hopper", [1.0], [0], cold=False, options=options)["results"]
    assert row["each_env_steps"] in ([64], [128]) and 1 < row["each_s"][0] < time.perf_counter() - started
