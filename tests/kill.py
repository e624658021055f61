"""Test that a run which is killed many times ends in the same state as a run without kills: ``make kill``.

Training runs in a process of its own. It is killed (SIGKILL) at random times, while it starts, while it trains, and
while a checkpoint is being written, and resumed after each kill. At the end its state, its metrics, its evaluations and
its best policy must equal those of a run without kills, to the bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mjxppo.config.values import from_dict, read_yaml
from mjxppo.console import say
from mjxppo.run import checkpoint
from mjxppo.run.best import read_best
from mjxppo.run.directory import CKPT, CONFIG
from mjxppo.run.metrics import JSONL, read_evaluations, read_rows

TIMES = ("time_s", "env_steps_per_s")
"""Metrics that measure time, and so differ from run to run."""
STARTING, TRAINING, SAVING = "starting", "training", "saving"
_TIME_LIMIT_S = 600.0
_OPTIONS = (
    *("--ppo.num-envs", "256", "--ppo.block-size", "64", "--ppo.rollout-length", "16", "--ppo.num-minibatches", "4"),
    *("--log.every-updates", "2", "--checkpoint.every-updates", "6", "--eval.episodes", "0", "--eval.no-video"),
    *("--eval.every-env-steps", "50000", "--eval.episodes-while-training", "2"),
)


class PromiseBroken(Exception):
    """Error that a promise about killed runs does not hold; the message says which."""


@dataclass
class Report:
    """Numbers of kills and of the updates that they cost."""

    kills: Counter[str] = field(default_factory=Counter)
    """Number of kills by the phase that was chosen: starting, training or saving."""
    during_a_save: int = 0
    """Number of kills that left an incomplete checkpoint."""
    lost_updates: list[int] = field(default_factory=list)
    """Number of updates that each kill lost."""
    interval: int = 0
    """Updates between two checkpoints."""
    updates: int = 0
    """Updates of the whole run."""
    seconds: float = 0.0
    """Duration of the whole test."""

    def as_dict(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "kills": sum(self.kills.values()),
            "kills_by_moment": dict(self.kills),
            "kills_during_a_save": self.during_a_save,
            "most_updates_lost": max(self.lost_updates),
            "mean_updates_lost": round(sum(self.lost_updates) / len(self.lost_updates), 1),
            "checkpoint_interval": self.interval,
            "updates": self.updates,
            "same_bits_as_left_alone": True,
            "seconds": round(self.seconds),
        }


class Run:
    """A run directory and the process that trains in it."""

    def __init__(self, path: Path, options: Sequence[str]):
        self.path = path
        self._options = options
        self._errors = path.with_suffix(".err")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the run, or resumes it."""
        begun = (self.path / CONFIG).is_file()
        arguments = ("--resume",) if begun else self._options
        command = [sys.executable, "-m", "mjxppo.cli", "train", "--run-dir", str(self.path), *arguments]
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Waits until ``ready`` returns True; raises PromiseBroken if the process ends before or 10 minutes pass."""
        deadline = time.monotonic() + _TIME_LIMIT_S
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise PromiseBroken(f"{self.path} ended by itself: {self._errors.read_text().strip() or 'it was done'}")
            if time.monotonic() > deadline:
                raise PromiseBroken(f"{self.path} makes no progress")
            time.sleep(0.001)

    def kill(self) -> None:
        """Kills the process with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        """Waits for the end of the run; raises PromiseBroken if its exit code is not 0."""
        assert self._process is not None
        if self._process.wait(_TIME_LIMIT_S) != 0:
            raise PromiseBroken(f"{self.path}: {self._errors.read_text().strip()}")

    @property
    def updates(self) -> int:
        """Number of updates in the metrics file."""
        rows = read_rows(self.path)
        return rows[-1]["update"] if rows else 0

    @property
    def newest(self) -> int:
        """Update of the newest complete checkpoint, 0 where there is none."""
        step = checkpoint.newest_whole_step(self.path / CKPT)
        return int(step.name) if step else 0

    @property
    def saving(self) -> bool:
        """Whether there is an incomplete checkpoint."""
        names = [entry.name for entry in (self.path / CKPT).glob("*")]
        return any("tmp" in name or not (self.path / CKPT / name / checkpoint.CHECKSUMS).is_file() for name in names)

    @property
    def metrics_file(self) -> int:
        """Number of the metrics file, which changes when a process opens it to write; 0 where there is none."""
        path = self.path / JSONL
        return path.stat().st_ino if path.is_file() else 0


def kill_and_compare(options: Sequence[str], kills: int, seed: int, directory: Path) -> Report:
    """Trains twice with the same options, once with kills and once without, and compares the two runs.

    Args:
        options: options of ``mjxppo train``.
        kills: number of kills.
        seed: seed of the times of the kills.
        directory: where both runs are written.

    Raises:
        PromiseBroken: a promise does not hold.
    """
    started = time.monotonic()
    report, rng = Report(), random.Random(seed)
    killed = Run(directory / "killed", options)
    for number in range(kills):
        _train_until_killed(killed, report, rng)
        say(f"{number + 1}/{kills}: at update {killed.updates}, {report.lost_updates[-1]} lost")
    killed.start()
    killed.finish()
    whole = Run(directory / "left-alone", options)
    whole.start()
    whole.finish()
    _compare(whole, killed)
    report.updates, report.seconds = whole.updates, time.monotonic() - started
    return report


def _train_until_killed(run: Run, report: Report, rng: random.Random) -> None:
    """Starts or resumes the run, kills it at a random time, and checks what the kill left."""
    phase = rng.choices((STARTING, TRAINING, SAVING), weights=(1, 4, 5))[0]
    before, metrics_file = run.newest, run.metrics_file
    run.start()
    if phase == STARTING:
        # Between the first instruction and the first updates.
        time.sleep(rng.uniform(0, 8))
    else:
        run.wait(lambda: run.metrics_file != metrics_file and run.updates > before)
        goal = before + rng.randint(1, 16)
        run.wait(lambda: run.updates >= goal)
        if phase == SAVING:
            run.wait(lambda: run.saving)
        time.sleep(rng.uniform(0, 0.05))
    run.kill()
    newest = run.newest
    report.kills[phase] += 1
    report.during_a_save += run.saving
    report.lost_updates.append(max(run.updates - newest, 0))
    report.interval = report.interval or _interval(run)
    if newest < before:
        raise PromiseBroken(f"checkpoint {before} was complete, and now the newest is {newest}")
    # A save may take until the next one is due, and the checkpoint before it is the newest until it is complete.
    if report.lost_updates[-1] > 2 * report.interval:
        raise PromiseBroken(f"{report.lost_updates[-1]} updates lost, with a checkpoint every {report.interval}")


def _interval(run: Run) -> int:
    """Updates between two checkpoints: as configured, rounded up to whole device calls."""
    if not (run.path / CONFIG).is_file():
        return 0
    config = from_dict(read_yaml(run.path / CONFIG))
    return -(-config.checkpoint.every_updates // config.log.every_updates) * config.log.every_updates


def _compare(whole: Run, killed: Run) -> None:
    """Raises PromiseBroken unless both runs have the same metrics and the same final state."""
    numbers = [row["update"] for row in read_rows(killed.path)]
    if numbers != list(range(1, len(numbers) + 1)):
        raise PromiseBroken("the metrics have a gap, or a line twice")
    rows = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(run.path)] for run in (whole, killed)
    ]
    if rows[0] != rows[1]:
        raise PromiseBroken("the metrics differ from those of the run left alone")
    evaluations = [read_evaluations(run.path) for run in (whole, killed)]
    if evaluations[0] != evaluations[1]:
        raise PromiseBroken("evaluations are missing, double, or differ from those of the run left alone")
    kept = [found[1] if (found := read_best(run.path)) else None for run in (whole, killed)]
    if kept[0] != kept[1]:
        raise PromiseBroken("the best policy differs from that of the run left alone")
    states = [checkpoint.read(run.path / CKPT / str(run.newest))[0] for run in (whole, killed)]
    if states[0].keys() != states[1].keys():
        raise PromiseBroken("the states differ from each other in what they hold")
    for name, array in states[0].items():
        if array.tobytes() != states[1][name].tobytes():
            raise PromiseBroken(f"{name} differs from that of the run left alone")


def main() -> int:
    """Runs the command; prints the report as JSON and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--env", default="hopper")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the kills")
    parser.add_argument("--num-devices", type=int, default=2)
    args = parser.parse_args()
    steps = args.kills * 40 * 256 * 16
    options = ["--env", args.env, *_OPTIONS, "--num-devices", str(args.num_devices), "--total-env-steps", str(steps)]
    with tempfile.TemporaryDirectory() as directory:
        try:
            report = kill_and_compare(options, args.kills, args.seed, Path(directory))
        except PromiseBroken as error:
            say(f"broken: {error}")
            return 1
    print(json.dumps(report.as_dict(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
