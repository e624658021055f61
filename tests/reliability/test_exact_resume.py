"""Every shipped configuration, interrupted anywhere, ends with the bits and the metrics of the run left alone.

A run's directory is copied at chosen moments while it trains. A copy is what a kill at that moment leaves behind; the
run is resumed from each.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kill import TIMES

from mjxppo.config.check import make_config
from mjxppo.config.layers import settings_of_algorithm
from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import configs_dir, from_dict, merge, read_yaml
from mjxppo.run import checkpoint, loop, start
from mjxppo.run.checkpoint import CheckpointWriter
from mjxppo.run.metrics import CSV, MetricsWriter, read_rows

# Worlds of Gymnasium's own cannot be saved.
SHIPPED = sorted({path.stem for path in configs_dir().glob("*.yaml")} - {"gymnasium"})
VARIANTS = {
    "one-device": {"num_devices": 1},
    "two-devices": {"num_devices": 2},
    # Few enough worlds for seeds to be vectorised.
    "two-seeds": {"num_devices": 2, "num_seeds": 2},
    "history": {"num_devices": 2, "policy": {"history": 3}},
}
ALWAYS = {
    ("half_cheetah_50m", "two-devices"),
    ("hopper_randomized", "history"),
}
"""What has the most schedules, and what holds the most state. ``make test-all`` tries all with all variants."""
CASES = [
    pytest.param(
        name, variant, id=f"{name}-{variant}", marks=() if (name, variant) in ALWAYS else pytest.mark.exhaustive
    )
    for name in SHIPPED
    for variant in VARIANTS
]
ALGORITHMS = {name: {"num_devices": 2, "algorithm": name} for name in ("trpo", "vpg", "a2c", "shac")}
"""For reinforce, whose updates differ in length, see ``test_algorithms.py``."""
CASES += [pytest.param("hopper", name, id=f"hopper-{name}", marks=pytest.mark.exhaustive) for name in ALGORITHMS]
SMALL = {
    "ppo": {"num_envs": 32, "block_size": 8},
    "log": {"every_updates": 2, "tensorboard": False},
    "checkpoint": {"every_updates": 3},
}
UPDATES = 9
"""The last one is cut short by the budget. Checkpoints are due after 4 and 8 updates, and at the end."""


def small(name: str, variant: dict) -> Config:
    """A shipped configuration, with its algorithm and schedules, at a size that a test can afford."""
    values = read_yaml(configs_dir() / f"{name}.yaml")
    values = merge(merge(merge(values, settings_of_algorithm(variant.get("algorithm"))), SMALL), variant)
    ppo = from_dict(values).ppo
    steps = (UPDATES - 1) * ppo.num_envs * ppo.rollout_length + 77
    return make_config(merge(values, {"total_env_steps": steps}))


class Copies:
    """Copies a run's directory at the moments that are asked for."""

    def __init__(self, run_dir: Path, monkeypatch: pytest.MonkeyPatch):
        self.run_dir, self.made = run_dir, {}
        write, save = MetricsWriter.write, CheckpointWriter.save

        def write_and_copy(writer: MetricsWriter, rows: list) -> None:
            write(writer, rows)
            self.copy("before the first checkpoint", rows[-1]["update"] == 2)
            self.copy("between two checkpoints", rows[-1]["update"] == 6)

        def save_and_copy(writer: CheckpointWriter, update: int, *args) -> None:
            save(writer, update, *args)
            if update == 4:
                writer.finish()
                self.copy("after a save", True)
            self.copy("during a save", update == 8)

        monkeypatch.setattr(MetricsWriter, "write", write_and_copy)
        monkeypatch.setattr(CheckpointWriter, "save", save_and_copy)

    def copy(self, moment: str, now: bool) -> None:
        if now and moment not in self.made:
            self.made[moment] = self.run_dir.with_name(moment)
            copy_while_it_changes(self.run_dir, self.made[moment])


class CompiledOnce:
    """The device program, which each of a test's runs would otherwise trace and compile for itself."""

    def __init__(self, train_chunk):
        self._trace, self._compiled = train_chunk.trace, None

    def trace(self, *arguments):
        self._compiled = self._compiled or self._trace(*arguments).lower().compile()
        return self

    def lower(self):
        return self

    def compile(self):
        return self._compiled


def copy_while_it_changes(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        try:
            if path.is_dir():
                copy_while_it_changes(path, target / path.name)
            else:
                shutil.copy2(path, target / path.name)
        except FileNotFoundError:
            continue


def left_behind(run_dir: Path) -> tuple[dict[str, bytes], list[list[dict]], list[int]]:
    """The final state's bits, and of each policy the metrics without times and the number of lines in metrics.csv."""
    arrays, config = checkpoint.read(checkpoint.newest_whole_step(run_dir / "ckpt"))
    state = {name: array.tobytes() for name, array in arrays.items()}
    directories = member_directories(run_dir, config)
    rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(path)] for path in directories]
    return state, rows, [len((path / CSV).read_text().split()) for path in directories]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_interrupted_anywhere_it_ends_as_if_left_alone(name, variant, tmp_path, monkeypatch):
    program = start.build(small(name, (VARIANTS | ALGORITHMS)[variant]))
    program.train_chunk = CompiledOnce(program.train_chunk)
    for directory in member_directories(tmp_path / "run", program.config):
        directory.mkdir(parents=True)
    with monkeypatch.context() as patch:
        copies = Copies(tmp_path / "run", patch).made
        loop.train(program, tmp_path / "run")
    state, rows, lines = left_behind(tmp_path / "run")
    assert all([row["update"] for row in own] == list(range(1, UPDATES + 1)) for own in rows)
    assert lines == [UPDATES + 1] * len(rows)
    assert {"learner/opt_state/1/mu", "env_state/key", "key", "env_steps/low"} <= state.keys()
    newest = {moment: checkpoint.newest_whole_step(copy / "ckpt") for moment, copy in copies.items()}
    assert {moment: int(step.name) if step else 0 for moment, step in newest.items()} == {
        "before the first checkpoint": 0,
        "after a save": 4,
        "between two checkpoints": 4,
        "during a save": 4,
    }
    for moment, copy in copies.items():
        loop.train(program, copy, resume=True)
        resumed_state, resumed_rows, resumed_lines = left_behind(copy)
        assert resumed_state.keys() == state.keys()
        assert not [name for name in state if state[name] != resumed_state[name]], moment
        assert resumed_rows == rows and resumed_lines == lines, moment
