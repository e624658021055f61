"""``mjxppo benchmark``: physics, training, compilation and the Gymnasium interface, measured on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mjxppo.commands.parsing import parse
from mjxppo.console import say
from mjxppo.errors import UserError, hint
from mjxppo.run import distributed

_KINDS = {
    "physics": "environment steps a second: ours, stock MJX and C MuJoCo, in one run",
    "train": "training throughput, everything included, and its split",
    "scale": "training on 1, 2, 4, ... devices, and the share of the collectives",
    "compile": "seconds to compile, without a cache",
    "return": "seconds from the start of the program until the policy has given returns",
    "gymnasium": "steps a second through Gymnasium's vector interface: ours, its sync and async one",
}


@dataclass(frozen=True)
class PhysicsArguments:
    """What to measure, and how long."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper", "walker2d")
    """Tasks."""
    backends: tuple[str, ...] = ()
    """c (C MuJoCo on all cores), planar, planar-pallas (a GPU kernel; planar-pallas:64:2 for 64 worlds and 2 warps a
    program), mjx, mjx-warp, mjx-stock (MJX with its default settings), planar-varied, mjx-varied (worlds of
    different make). None: all that make sense here, but mjx-warp and these two."""
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
    """What to measure, and how long."""

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
    """What to measure, and how long."""

    tasks: tuple[str, ...] = ("half_cheetah",)
    """Tasks, with their shipped configurations."""
    config: tuple[str, ...] = ()
    """YAML files, or names of shipped configurations, to measure instead."""
    modes: tuple[str, ...] = ("weak", "strong")
    """weak (the configuration's worlds on each device), strong (so many on all together)."""
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
    """What to measure."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper", "walker2d")
    """Tasks, with their shipped configurations."""
    out: Path | None = None
    """Also write the JSON to this file."""


@dataclass(frozen=True)
class ReturnArguments:
    """What to wait for."""

    tasks: tuple[str, ...] = ("half_cheetah", "hopper")
    """Tasks, with their shipped configurations."""
    marks: tuple[float, ...] = ()
    """Returns to wait for, in rising order; default: 5000 8000 10000 for half_cheetah, 3000 for hopper."""
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
    """What to measure, and how long."""

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


ARGUMENTS = {
    "physics": (PhysicsArguments, _KINDS["physics"]),
    "train": (TrainArguments, _KINDS["train"]),
    "scale": (ScaleArguments, _KINDS["scale"]),
    "compile": (CompileArguments, _KINDS["compile"]),
    "return": (ReturnArguments, _KINDS["return"]),
    "gymnasium": (GymnasiumArguments, _KINDS["gymnasium"]),
}
"""What each kind takes."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<9} {text}" for name, text in _KINDS.items())
        print(f"usage: mjxppo benchmark KIND [OPTIONS]\n\nkinds:\n{lines}")
        return 0
    kind, rest = arguments[0], arguments[1:]
    if kind not in _KINDS:
        raise UserError(f"benchmark: there is no kind {kind!r}; {hint(kind, _KINDS)}")
    measure = {
        "physics": _physics,
        "train": _train,
        "scale": _scale,
        "compile": _compile,
        "return": _return,
        "gymnasium": _gymnasium,
    }[kind]
    result, out = measure(rest)
    if not distributed.is_first():
        return 0
    _print_table(result["results"])
    for task, backend in result.get("fastest", {}).items():
        say(f"{task}: fastest is {backend}: --physics.backend {backend.split(':')[0]}")
    text = json.dumps(result, indent=1)
    if out is not None:
        from mjxppo.files import write_bytes

        write_bytes(out, (text + "\n").encode())
    print(text)
    return 0


def _physics(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(PhysicsArguments, arguments, prog="mjxppo benchmark physics", description=_KINDS["physics"])
    from mjxppo.measure import physics

    tasks = [_canonical(task) for task in parsed.tasks]
    result = physics.measure_physics(tasks, parsed.backends, parsed.num_envs, parsed.num_steps, parsed.repeats)
    return result, parsed.out


def _train(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(TrainArguments, arguments, prog="mjxppo benchmark train", description=_KINDS["train"])
    from mjxppo.config.check import make_config
    from mjxppo.config.values import defaults_for, read_named
    from mjxppo.measure import train

    files = [read_named(name) for name in parsed.config]
    values = files or [defaults_for(_canonical(task)) for task in parsed.tasks]
    configs = [make_config(v) for v in values]
    if parsed.randomized:
        configs = [variant for c in configs for variant in (c, dataclasses.replace(c, randomize=train.EVERYTHING))]
    result = train.measure_training(configs, parsed.repeats, parsed.skip_updates)
    if parsed.against:
        from mjxppo.measure.other_trainers import compare_trainers

        speeds = [row["env_steps_per_s"] for row in result["results"]]
        compared = [
            compare_trainers(config, parsed.against, speed) for config, speed in zip(configs, speeds, strict=True)
        ]
        result["against"] = [row for rows in compared for row in rows]
        _print_table(result["against"])
    return result, parsed.out


def _scale(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(ScaleArguments, arguments, prog="mjxppo benchmark scale", description=_KINDS["scale"])
    from mjxppo.config.check import make_config
    from mjxppo.config.values import defaults_for, merge, read_named
    from mjxppo.measure import scale

    changes = {"ppo": {"num_envs": parsed.num_envs}} if parsed.num_envs else {}
    files = [read_named(name) for name in parsed.config]
    values = files or [defaults_for(_canonical(task)) for task in parsed.tasks]
    configs = [make_config(merge(v, changes)) for v in values]
    with distributed.joined():
        return scale.measure_scaling(configs, parsed.modes, parsed.num_devices, parsed.repeats), parsed.out


def _compile(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(CompileArguments, arguments, prog="mjxppo benchmark compile", description=_KINDS["compile"])
    from mjxppo.measure import compile as compilation

    return compilation.measure_compilation([_canonical(task) for task in parsed.tasks]), parsed.out


def _return(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(ReturnArguments, arguments, prog="mjxppo benchmark return", description=_KINDS["return"])
    from mjxppo.measure import time_to_return

    seeds = range(parsed.seed, parsed.seed + parsed.num_seeds)
    is_file = parsed.config is not None and Path(parsed.config).exists()  # training runs in another directory
    config = str(Path(parsed.config).resolve()) if parsed.config and is_file else parsed.config
    options = [] if config is None else ["--config", config]
    measured = []
    for task in map(_canonical, parsed.tasks):
        marks = parsed.marks or time_to_return.MARKS.get(task)
        if not marks:
            raise UserError(f"marks: say which returns of {task} to wait for, such as --marks 1000")
        measured.append(time_to_return.measure_time_to_return(task, sorted(marks), seeds, parsed.cold, options))
    return {**measured[0], "results": [row for one in measured for row in one["results"]]}, parsed.out


def _gymnasium(arguments: Sequence[str]) -> tuple[dict[str, Any], Path | None]:
    parsed = parse(GymnasiumArguments, arguments, prog="mjxppo benchmark gymnasium", description=_KINDS["gymnasium"])
    from mjxppo.measure import gymnasium

    tasks = [_canonical(task) for task in parsed.tasks]
    return gymnasium.measure_gymnasium(tasks, parsed.modes, parsed.num_envs, parsed.seconds, parsed.repeats), parsed.out


def _canonical(task: str) -> str:
    from mjxppo.envs.registry import canonical_name

    return canonical_name(task)


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
