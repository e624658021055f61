"""``mjxppo benchmark``: physics, training, compilation and the Gymnasium interface, measured on this machine."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mjxppo.commands.parsing import parse
from mjxppo.config import layers
from mjxppo.config.schema import BackendName, Config
from mjxppo.console import print_json, say
from mjxppo.envs.registry import canonical_name
from mjxppo.errors import UserError, hint
from mjxppo.files import write_json
from mjxppo.run import distributed


@dataclass(frozen=True)
class PhysicsArguments:
    """Environment steps per second: this package's backends, stock MJX and C MuJoCo."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper", "walker2d")
    """Tasks."""
    backends: tuple[str, ...] = ()
    """c (C MuJoCo on all cores), planar, spatial, planar-pallas and spatial-pallas (GPU kernels; planar-pallas:64:2 for
    64 worlds and 2 warps a program), mjx, mjx-warp, mjx-stock (MJX with its default settings), planar-varied,
    spatial-varied, mjx-varied (worlds of different masses, friction, ...). Default: c, planar or spatial, mjx,
    mjx-stock, and the kernel on a GPU."""
    num_envs: int = 4096
    """Worlds stepped side by side."""
    num_steps: int = 20
    """Environment steps in a round."""
    repeats: int = 5
    """Rounds; the median counts."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class TrainArguments:
    """Training throughput with everything included, and the times of an update's parts."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper")
    """Tasks, with their shipped configurations."""
    config: tuple[str, ...] = ()
    """YAML files, or names of shipped configurations, to measure instead."""
    randomized: bool = False
    """Measure each of them with everything randomised as well."""
    skip_updates: int = 0
    """Updates trained before the first round."""
    against: tuple[str, ...] = ()
    """Other trainers to measure in the same run: sb3, brax (its own environment), brax-ours."""
    repeats: int = 5
    """Rounds; the median counts."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class ScaleArguments:
    """Training on 1, 2, 4, ... devices, and the share of time that the collectives take."""

    tasks: tuple[str, ...] = ("half_cheetah",)
    """Tasks, with their shipped configurations."""
    config: tuple[str, ...] = ()
    """YAML files, or names of shipped configurations, to measure instead."""
    modes: tuple[str, ...] = ("weak", "strong")
    """weak (the configuration's worlds on each device), strong (that number on all devices together)."""
    num_devices: tuple[int, ...] = ()
    """Numbers of devices; none: 1, 2, 4, ... up to those there are."""
    num_envs: int = 0
    """Worlds, instead of the configuration's; 0: as configured."""
    repeats: int = 5
    """Rounds; the median counts."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class CompileArguments:
    """Seconds to compile, without a cache."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper", "walker2d")
    """Tasks, with their shipped configurations."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class ReturnArguments:
    """Seconds from the start of the program until the policy reaches given returns."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper")
    """Tasks, with their shipped configurations."""
    marks: tuple[float, ...] = ()
    """Returns whose times are measured; default: 5000 8000 10000 for half_cheetah, 3000 for hopper."""
    num_seeds: int = 5
    """Runs of each task; the median counts."""
    seed: int = 0
    """Seed of the first run; the others follow on."""
    cold: bool = False
    """Start every run with an empty compilation cache."""
    config: str | None = None
    """YAML file, or name of a shipped configuration."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class GymnasiumArguments:
    """Steps per second through Gymnasium's vector interface: this package's, sync and async."""

    tasks: tuple[str, ...] = ("half_cheetah",)
    """Tasks."""
    modes: tuple[str, ...] = ("mjxppo", "sync")
    """mjxppo (this package's), sync and async (Gymnasium's own; async takes a process, some 30 MB, for each world)."""
    num_envs: int = 1024
    """Worlds stepped side by side."""
    seconds: float = 2.0
    """Length of a round (s)."""
    repeats: int = 5
    """Rounds; the median counts."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class ProgramArguments:
    """The program that a GPU, which need not be there, would run: launches, waits, memory."""

    config: str = "half_cheetah_gpu"
    """YAML file, or name of a shipped configuration."""
    device: str = "h200"
    """The GPU: h200, a100, rtx4090, or a text file that describes another as XLA's GpuTargetConfigProto."""
    backend: BackendName | None = None
    """Physics backend, instead of the configuration's."""
    num_devices: int = 1
    """GPUs of one host that share the worlds."""
    out: Path | None = None
    """Also write the JSON to this file."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<9} {cls.__doc__}" for name, (cls, _) in KINDS.items())
        print(f"usage: mjxppo benchmark KIND [OPTIONS]\n\nkinds:\n{lines}")
        return 0
    kind, *rest = arguments
    if kind not in KINDS:
        raise UserError(f"benchmark: there is no kind {kind!r}; {hint(kind, KINDS)}")
    cls, measure = KINDS[kind]
    parsed = parse(cls, rest, f"mjxppo benchmark {kind}")
    result = measure(parsed, [canonical_name(task) for task in getattr(parsed, "tasks", ())])
    if not distributed.is_first():
        return 0
    for rows in filter(None, (result.get("against"), result.get("results"))):
        _print_table(rows)
    for task, backend in result.get("fastest", {}).items():
        say(f"{task}: fastest is {backend}: --physics.backend {backend.split(':')[0]}")
    if parsed.out is not None:
        write_json(parsed.out, result)
    print_json(result)
    return 0


def _physics(parsed: PhysicsArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import physics

    return physics.measure_physics(tasks, parsed.backends, parsed.num_envs, parsed.num_steps, parsed.repeats)


def _train(parsed: TrainArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import train
    from mjxppo.measure.other_trainers import compare_trainers

    configs = _configurations(parsed.config, tasks, {})
    if parsed.randomized:
        configs = [variant for c in configs for variant in (c, dataclasses.replace(c, randomize=train.EVERYTHING))]
    result = train.measure_training(configs, parsed.repeats, parsed.skip_updates)
    if parsed.against:
        speeds = [row["env_steps_per_s"] for row in result["results"]]
        pairs = zip(configs, speeds, strict=True)
        result["against"] = [row for pair in pairs for row in compare_trainers(pair[0], parsed.against, pair[1])]
    return result


def _scale(parsed: ScaleArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import scale

    configs = _configurations(parsed.config, tasks, {"ppo": {"num_envs": parsed.num_envs}} if parsed.num_envs else {})
    with distributed.joined():
        return scale.measure_scaling(configs, parsed.modes, parsed.num_devices, parsed.repeats)


def _compile(parsed: CompileArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import compile as compilation

    return compilation.measure_compilation(tasks)


def _return(parsed: ReturnArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import time_to_return

    seeds = range(parsed.seed, parsed.seed + parsed.num_seeds)
    is_file = parsed.config is not None and Path(parsed.config).exists()  # training runs in another directory
    config = str(Path(parsed.config).resolve()) if parsed.config and is_file else parsed.config
    options = [] if config is None else ["--config", config]
    measured = []
    for task in tasks:
        marks = parsed.marks or time_to_return.MARKS.get(task)
        if not marks:
            raise UserError(f"marks: give the returns of {task} whose times are measured, such as --marks 1000")
        measured.append(time_to_return.measure_time_to_return(task, sorted(marks), seeds, parsed.cold, options))
    return {**measured[0], "results": [row for one in measured for row in one["results"]]}


def _program(parsed: ProgramArguments, tasks: list[str]) -> dict[str, Any]:
    # XLA complains of slow compilation, and of what it then refuses; read when JAX is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mjxppo.measure.gpu import program, report
    from mjxppo.measure.gpu.device import read_device

    device = read_device(parsed.device)
    if parsed.num_devices < 1:
        raise UserError(f"num_devices: must be at least 1, not {parsed.num_devices}")
    changes: dict[str, Any] = {"num_devices": parsed.num_devices}
    if parsed.backend is not None:
        changes["physics"] = {"backend": parsed.backend}
    result = program.measure_program(_configuration(parsed.config, changes), device, parsed.num_devices)
    for rows in report.tables(result):
        if rows:
            _print_table(rows)
    for line in report.lines(result):
        say(line)
    return result


def _gymnasium(parsed: GymnasiumArguments, tasks: list[str]) -> dict[str, Any]:
    from mjxppo.measure import gymnasium

    return gymnasium.measure_gymnasium(tasks, parsed.modes, parsed.num_envs, parsed.seconds, parsed.repeats)


KINDS: dict[str, tuple[type[Any], Callable[[Any, list[str]], dict[str, Any]]]] = {
    "physics": (PhysicsArguments, _physics),
    "train": (TrainArguments, _train),
    "scale": (ScaleArguments, _scale),
    "compile": (CompileArguments, _compile),
    "return": (ReturnArguments, _return),
    "gymnasium": (GymnasiumArguments, _gymnasium),
    "program": (ProgramArguments, _program),
}
"""The arguments of each kind of benchmark, and the function that measures it on the tasks of these names."""


def _configurations(names: Sequence[str], tasks: Sequence[str], changes: Mapping[str, Any]) -> list[Config]:
    """The named configurations, or else those of the tasks, with changes on top."""
    if names:
        return [_configuration(name, changes) for name in names]
    return [layers.resolve(task, changes) for task in tasks]


def _configuration(name: str, changes: Mapping[str, Any]) -> Config:
    """The configuration of a YAML file, or a shipped one, over its task's, with changes on top."""
    values = layers.changes_of([name], changes)
    if not isinstance(env := values.get("env"), str):
        raise UserError(f"env: {name} names no task; write one into it, such as env: half_cheetah")
    return layers.resolve(canonical_name(env), values)


def _print_table(rows: list[dict[str, Any]]) -> None:
    """The results for a person, on standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="right" if isinstance(rows[0][name], int | float) else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(stderr=True, width=None if sys.stderr.isatty() else 220).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)
