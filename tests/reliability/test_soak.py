"""What the soak test makes of a run's metrics and memory samples."""

from __future__ import annotations

import pytest
import soak


def rows(speeds=(100,) * 10, nonfinite=0):
    time, found = 0.0, []
    for update in range(100):
        time += 10 / speeds[update // 10]
        row = {"update": update + 1, "env_steps": 10 * (update + 1), "time_s": time}
        found.append(row | {"nonfinite_steps": nonfinite if update == 50 else 0, "skipped_gradient_steps": 0})
    return found


def samples(growth=0.0, until=10.0):
    """Memory that grows steadily by a share over the run, on a clock that starts at 1000."""
    return [soak.Sample(1000 + t * until / 100, int(1e9 * (1 + growth * t / 100)), 0) for t in range(100)]


def judge(rows, samples):
    return soak.problems(soak.tenths(rows, samples, finished=1000 + rows[-1]["time_s"]))


def test_tenths_have_the_run_s_own_numbers():
    parts = soak.tenths(rows(), samples(), finished=1010.0)
    assert [part["env_steps"] for part in parts] == list(range(100, 1001, 100))
    assert all(part["env_steps_per_s"] == pytest.approx(100) and part["rss_mb"] == 1000 for part in parts)


@pytest.mark.parametrize(
    "metrics, memory, message",
    [
        (rows(), samples(), None),
        (rows(), samples(growth=0.03), None),
        (rows(), samples(growth=0.10), "resident memory grew"),
        (rows(speeds=[50] + 9 * [100]), samples(until=11), None),  # warm-up
        (rows(speeds=[100] * 9 + [85]), samples(until=10.2), "throughput fell"),
        (rows(nonfinite=3), samples(), "3 worlds or gradients became non-finite"),
    ],
    ids=["good", "a little growth", "leak", "slow start", "slowdown", "non-finite"],
)
def test_leaks_slowdown_and_nonfinite_numbers_are_found(metrics, memory, message):
    found = judge(metrics, memory)
    assert (found == []) if message is None else (len(found) == 1 and message in found[0])


def test_memory_of_this_process_can_be_read():
    assert 10e6 < soak.resident_bytes() < 1e12 and soak.device_bytes() >= 0
