"""Run in a mount namespace of its own: trains on a disk that fills up, and prints what came of it as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

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


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)


class Filler:
    """Fills the disk once a checkpoint is whole, while another is written or not, and may free it four rows later."""

    def __init__(self, path: Path, run_dir: Path, midway: bool, free: bool):
        self.path, self.run_dir, self.midway, self.free = path, run_dir, midway, free
        self.full_for: int | None = None
        self.good: int | None = None

    def look(self) -> None:
        whole = sorted(int(path.parent.name) for path in self.run_dir.glob(f"ckpt/*/{checkpoint.CHECKSUMS}"))
        writing = bool(list(self.run_dir.glob("ckpt/*-tmp*")))
        if self.full_for is None and whole and writing == self.midway:
            fill(self.path)
            self.full_for, self.good = 0, whole[-1]
        elif self.full_for is not None:
            self.full_for += 1
            if self.full_for == 4 and self.free:
                self.path.unlink()


def train_on_a_filling_disk(run_dir: Path, *arguments: str, midway: bool = False, free: bool = False) -> dict:
    filler, write = Filler(run_dir.with_suffix(".filler"), run_dir, midway, free), MetricsWriter.write

    def look_and_write(self: MetricsWriter, rows: list) -> None:
        filler.look()
        write(self, rows)

    MetricsWriter.write = look_and_write
    try:
        return train(run_dir, *arguments) | {"good": filler.good}
    finally:
        MetricsWriter.write = write
        filler.path.unlink(missing_ok=True)


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
