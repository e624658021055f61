"""A program for a mount namespace of its own: trains on disks that fill up, and prints the outcomes as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from mjxppo import cli
from mjxppo.run import checkpoint
from mjxppo.run.metrics import MetricsWriter, read_rows

OPTIONS = [
    *("--env", "brax:fast", "--ppo.num-envs", "64", "--ppo.block-size", "16", "--ppo.rollout-length", "16"),
    *("--ppo.num-minibatches", "4", "--log.every-updates", "3", "--checkpoint.every-updates", "5"),
    *("--eval.episodes", "0", "--eval.no-video", "--num-devices", "2", "--total-env-steps", str(90 * 1024)),
]


def train(run_dir: Path, *arguments: str) -> dict:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["train", *OPTIONS, "--run-dir", str(run_dir), *arguments])
    steps = checkpoint.steps(run_dir / "ckpt")
    return {
        "code": code,
        "errors": errors.getvalue().splitlines(),
        "whole": [checkpoint.newest_whole_step(run_dir / "ckpt") == run_dir / "ckpt" / str(steps[0])] if steps else [],
        "steps": steps,
        "updates": [row["update"] for row in read_rows(run_dir)],
    }


class Filler:
    """Fills the disk once a checkpoint is whole, and may free it four rows later.

    Either between two saves, when a row is written, or midway: while a save writes in the background.
    """

    def __init__(self, path: Path, run_dir: Path, midway: bool, free: bool):
        self.path, self.run_dir, self.midway, self.free = path, run_dir, midway, free
        self.full_for: int | None = None
        """Rows since the disk was filled."""
        self.good: int | None = None
        """The newest whole checkpoint when the disk was filled."""

    def before_a_row(self) -> None:
        if self.full_for is not None:
            self.full_for += 1
            if self.full_for == 4 and self.free:
                self.path.unlink()
        elif not self.midway and self.whole():
            wait_for(lambda: not self.writing())
            self.fill()

    def after_a_save_began(self, update: int) -> None:
        if self.full_for is None and self.midway and self.whole():
            wait_for(lambda: self.writing() or (self.run_dir / "ckpt" / str(update)).is_dir())
            if self.writing():
                self.fill()

    def fill(self) -> None:
        self.full_for, self.good = 0, self.whole()[-1]
        with contextlib.suppress(OSError), self.path.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)

    def whole(self) -> list[int]:
        return sorted(int(path.parent.name) for path in self.run_dir.glob(f"ckpt/*/{checkpoint.CHECKSUMS}"))

    def writing(self) -> bool:
        return bool(list(self.run_dir.glob("ckpt/*-tmp*")))


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def train_on_a_filling_disk(run_dir: Path, *arguments: str, midway: bool = False, free: bool = False) -> dict:
    filler = Filler(run_dir.with_suffix(".filler"), run_dir, midway, free)
    write, save = MetricsWriter.write, checkpoint.CheckpointWriter.save

    def look_and_write(self: MetricsWriter, rows: list) -> None:
        filler.before_a_row()
        write(self, rows)

    def save_and_look(self: checkpoint.CheckpointWriter, update: int, *args) -> None:
        save(self, update, *args)
        filler.after_a_save_began(update)

    with (
        mock.patch.object(MetricsWriter, "write", look_and_write),
        mock.patch.object(checkpoint.CheckpointWriter, "save", save_and_look),
    ):
        outcome = train(run_dir, *arguments) | {"good": filler.good}
    filler.path.unlink(missing_ok=True)
    return outcome


def main(disk: Path) -> dict:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    return {
        "freed": train_on_a_filling_disk(disk / "freed", free=True),
        "stop": train_on_a_filling_disk(disk / "stop", "--on-write-error", "stop"),
        "continue": train_on_a_filling_disk(disk / "continue"),
        "midway": train_on_a_filling_disk(disk / "midway", midway=True),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
