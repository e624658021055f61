"""A full disk is reported in a line, costs no checkpoint and no row, and stops the run only if that was asked for."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from toy import PointMass

from mjxppo.config.check import make_config
from mjxppo.config.schema import Config
from mjxppo.config.values import merge
from mjxppo.files import AppendFile, WriteFailed
from mjxppo.run import checkpoint, loop, metrics, start
from mjxppo.run.metrics import MetricsWriter, read_rows

OWN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount() -> bool:
    try:
        return (
            subprocess.run([*OWN_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
            == 0
        )
    except OSError:
        return False


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict:
    if not can_mount():
        pytest.skip("needs a mount namespace")
    child = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        [*OWN_NAMESPACE, sys.executable, str(child), str(tmp_path_factory.mktemp("disk"))],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("work"),
        env=os.environ | {"PYTHONPATH": str(Path(metrics.__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_goes_on_and_catches_up_when_there_is_room_again(outcomes):
    freed = outcomes["freed"]
    assert freed["code"] == 0
    assert freed["updates"] == list(range(1, 91)), "no gap, no line twice"
    assert freed["steps"][0] == 90 and freed["whole"] == [True]
    reports = [line for line in freed["errors"] if "No space left on device" in line]
    # Metrics, the next checkpoint, and the one that may have been under way: each is reported once.
    assert 1 <= len(reports) == len(set(reports)) <= 3
    assert "going on (on_write_error), the last good checkpoint is step" in reports[0]


@pytest.mark.parametrize("name", ["stop", "continue", "midway"])
def test_the_last_good_checkpoint_is_kept(outcomes, name):
    outcome = outcomes[name]
    assert outcome["code"] == 1
    # A save that had its room when the disk filled up may still have become whole.
    assert outcome["steps"][0] >= outcome["good"] and outcome["whole"] == [True]
    assert f"last good checkpoint is step {outcome['steps'][0]}" in outcome["errors"][-1]
    assert "No space left on device" in outcome["errors"][-1]
    if name != "midway":  # there the libraries that write report it too
        assert not [line for line in outcome["errors"] if "Traceback" in line]


def test_it_stops_or_goes_on_as_configured(outcomes):
    assert len(outcomes["stop"]["errors"]) == 2, "what is trained, and why that ended"
    assert len(outcomes["stop"]["updates"]) < 90
    assert "on_write_error" in outcomes["continue"]["errors"][1]
    assert "the last state is lost" in outcomes["continue"]["errors"][-1]


def small(**changes) -> Config:
    """Twelve updates with a checkpoint every three."""
    values = {
        "env": "hopper",  # never built: a toy takes its place
        "total_env_steps": 12 * 256,
        "num_devices": 2,
        "policy": {"hidden_sizes": [8]},
        "ppo": {"num_envs": 32, "block_size": 8, "rollout_length": 8, "num_minibatches": 4, "num_epochs": 1},
        "log": {"every_updates": 1, "tensorboard": False},
        "checkpoint": {"every_updates": 3},
    }
    return make_config(merge(values, changes))


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("reason", ["a row that cannot be written", "too many non-finite worlds"])
def test_a_run_that_stops_names_the_checkpoint_that_was_under_way(reason, tmp_path, monkeypatch):
    """The save of update 3 is completed only when the run ends, and still the message names it."""
    write = MetricsWriter.write

    def fail_at_update_5(self: MetricsWriter, rows: list) -> None:
        if rows[0]["update"] == 5 and reason == "a row that cannot be written":
            raise WriteFailed("cannot write the row")
        write(self, rows)

    def check_health(self: loop._Loop, rows: list) -> None:
        check(self, [[row | {"nonfinite_steps": 256 * (row["update"] == 5)} for row in own] for own in rows])

    config, check = small(on_write_error="stop"), loop._Loop._check_health
    monkeypatch.setattr(MetricsWriter, "write", fail_at_update_5)
    monkeypatch.setattr(loop._Loop, "_check_health", check_health)
    monkeypatch.setattr(checkpoint.CheckpointWriter, "poll", lambda self: None)
    with pytest.raises(loop.TrainingFailed, match=r"the last good checkpoint is step 3$"):
        loop.train(start.build(config, PointMass()), tmp_path)
    assert checkpoint.newest_whole_step(tmp_path / "ckpt").name == "3"


@pytest.fixture
def limit_file_size():
    """Files cannot grow beyond a limit: the system's own refusal, without a disk to fill."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_append_that_does_not_fit_leaves_no_part_of_itself_and_is_made_up_for(tmp_path, limit_file_size):
    file = AppendFile(tmp_path / "file", b"begin\n")
    limit_file_size(20)
    file.append(b"fits\n")
    with pytest.raises(WriteFailed, match=r"cannot write .*file: File too large"):
        file.append(b"does not fit in here\n")
    assert (tmp_path / "file").read_bytes() == b"begin\nfits\n"
    with pytest.raises(WriteFailed):
        file.sync()
    limit_file_size(resource.RLIM_INFINITY)
    file.append(b"end\n")
    assert (tmp_path / "file").read_bytes() == b"begin\nfits\ndoes not fit in here\nend\n"


def test_every_file_of_metrics_catches_up(tmp_path, limit_file_size):
    writer = MetricsWriter(tmp_path)
    row = {"env_steps": 10, "value_loss": 0.5}
    writer.write([{"update": 1} | row])
    limit_file_size(100)
    for update in (2, 3):
        with pytest.raises(WriteFailed):
            writer.write([{"update": update} | row])
    limit_file_size(resource.RLIM_INFINITY)
    writer.write([{"update": 4} | row])
    writer.close()
    assert [row["update"] for row in read_rows(tmp_path)] == [1, 2, 3, 4]
    assert (tmp_path / metrics.CSV).read_text().count("\n") == 5
    (events,) = (tmp_path / metrics.TENSORBOARD).iterdir()
    assert len(scalars(events)) == 4


def scalars(path: Path) -> list[tuple[int, dict[str, float]]]:
    """What TensorBoard reads from an event file: (step, values)."""
    import struct

    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc32c(data[12 : 12 + length]),)
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        if event.HasField("summary"):
            found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
        data = data[16 + length :]
    return found
