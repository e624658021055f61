"""Studies: comparisons of variants of the settings, with several seeds each, as curves and tables.

A study is a YAML file: the question, the settings in which every variant is tried, the variants, and the metrics to
draw. Each pair of setting and variant is one run with several seeds, kept in a directory of its own. A study that was
interrupted continues with the runs that are not finished.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mjxppo.analysis.plot.curves import steps_to_return
from mjxppo.analysis.plot.overview import draw_overview
from mjxppo.analysis.plot.robustness import draw_shares
from mjxppo.config.layers import changes_of, resolve
from mjxppo.config.schema import Config
from mjxppo.config.sweep import member_directories
from mjxppo.config.values import build, configs_dir, from_dict, merge, read_yaml, to_yaml
from mjxppo.console import human, say, score
from mjxppo.envs.registry import canonical_name
from mjxppo.errors import UserError
from mjxppo.files import read_json, write_bytes, write_json
from mjxppo.policy import robustness
from mjxppo.run.directory import CONFIG, EVAL
from mjxppo.run.load import load_all
from mjxppo.run.metrics import read_rows

RESULTS = "results"
TARGET_EPISODES = 20
_FIRST_SEED = 1_000_000
"""Seed of the first episode on robots that differ from the model; the default of ``mjxppo evaluate``."""


@dataclass(frozen=True)
class Perturbations:
    """Grids of robots that differ from the model, on which the policies are evaluated in C MuJoCo."""

    grids: dict[str, tuple[str, ...]]
    """One or two ranges for each grid, by the grid's name, as ``mjxppo evaluate --perturb`` takes them."""
    points: int = 5
    """Number of values in each range."""
    episodes: int = 5
    """Episodes of each policy on each robot."""

    def axes(self) -> dict[str, list[robustness.Axis]]:
        """The grids' axes, by the grid's name; raises UserError where a range is wrong."""
        return {name: [robustness.parse_axis(text, self.points) for text in axes] for name, axes in self.grids.items()}


@dataclass(frozen=True)
class Study:
    """A question, and the settings and variants of the runs that answer it."""

    question: str
    num_seeds: int
    settings: dict[str, dict[str, Any]]
    """Settings in which each variant is tried, by name: fields of a configuration, at least env. They replace fields of
    the task's shipped configuration, or of the shipped configuration that ``config`` names."""
    variants: dict[str, dict[str, Any]]
    """Variants to compare, by name: fields of a configuration that replace those of a setting; ``config`` as there."""
    metrics: tuple[str, ...] = ("episode_return",)
    """Columns of metrics.jsonl to draw, one panel each."""
    perturb: Perturbations | None = None
    """Robots that differ from the model, on which the trained policies are compared with the first variant's."""
    target_return: float | None = None
    """A training return; where given, the table has the environment steps until the mean return of the last
    ``TARGET_EPISODES`` finished training episodes reaches it."""


def find_study(name: str) -> Path:
    """The file of the shipped study ``name``, or else the file at that path.

    Raises:
        UserError: there is neither; the message names the shipped studies.
    """
    shipped = configs_dir() / "studies"
    for path in (shipped / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise UserError(f"study: there is no study {name}; shipped: {known}, or give a YAML file")


def read_study(path: Path) -> Study:
    """Reads a study's file and checks the configuration of each of its runs.

    Raises:
        UserError: names the field that is wrong.
    """
    try:
        study = build(Study, read_yaml(path), "the file")
    except UserError as error:
        raise UserError(f"study: {path}: {error}") from error
    if not study.settings or not study.variants or study.num_seeds < 2:
        raise UserError(f"study: {path} needs settings, variants, and num_seeds of at least 2")
    for _ in configurations(study):
        pass
    if study.perturb is not None:
        for axes in study.perturb.axes().values():
            robustness.check_axes(axes)
        if study.perturb.episodes < 1:
            raise UserError(f"study: perturb.episodes: must be at least 1, not {study.perturb.episodes}")
    return study


def configurations(study: Study) -> Iterator[tuple[str, str, Config]]:
    """Setting, variant and checked configuration of each run; raises UserError where a configuration is wrong."""
    for setting, fields in study.settings.items():
        for variant, changes in study.variants.items():
            if "env" not in fields:
                raise UserError(f"study: settings.{setting} names no env")
            layers = merge(fields, changes) | {"num_seeds": study.num_seeds}
            shipped = layers.pop("config", None)
            try:
                config = resolve(canonical_name(fields["env"]), changes_of([shipped] if shipped else [], layers))
                if not config.eval.episodes:
                    raise UserError("eval.episodes: must be at least 1: the returns are what is compared")
                yield setting, variant, config
            except UserError as error:
                raise UserError(f"study: {setting} with {variant}: {error}") from error


def run_study(study: Study, directory: Path, jobs: int = 1) -> dict[str, Any]:
    """Trains the runs that are not finished; writes curves and results to ``directory``; returns the results.

    ``jobs`` runs are trained at the same time: more than one is faster for runs too small to use the whole machine.

    Raises:
        UserError: a run failed; the finished runs are kept.
    """
    if jobs < 1:
        raise UserError(f"jobs: must be at least 1, not {jobs}")
    planned = [(setting, variant, directory / setting / variant, c) for setting, variant, c in configurations(study)]
    left = [config.total_env_steps for _, _, path, config in planned if not (path / EVAL).is_file()]
    _announce(study, len(planned), left)
    started, done = time.monotonic(), 0
    with ThreadPoolExecutor(jobs) as pool:
        trained = pool.map(lambda run: _train(run[2], run[3]), planned)
        for now, (_, _, _, config) in zip(trained, planned, strict=True):
            done += config.total_env_steps if now else 0
            if now and done < sum(left):
                minutes = (time.monotonic() - started) / 60 * (sum(left) - done) / done
                say(f"study: about {max(minutes, 1):.0f} min left, at the speed so far")
    results: dict[str, dict[str, Any]] = {}
    for setting, variant, path, config in planned:
        result = read_json(path / EVAL) or {}
        result |= _steps_to_target(study, config, path) | {"best": _best_while_training(config, path)}
        results.setdefault(setting, {})[variant] = result
    content = {"question": study.question, "results": results, "plots": _draw(study, directory)}
    if study.perturb is not None:
        content["perturbed"] = {setting: _perturbed(study, directory / setting) for setting in study.settings}
    write_json(directory / f"{RESULTS}.json", content)
    write_bytes(directory / f"{RESULTS}.md", to_markdown(study, content).encode())
    return content


def _announce(study: Study, planned: int, left: list[int]) -> None:
    """Says how many of the ``planned`` runs are ``left``, which holds the steps of each."""
    say(f"study: {len(left)} of {planned} runs are to be trained, {human(sum(left) * study.num_seeds)} steps")


def _best_while_training(config: Config, path: Path) -> list[float | None]:
    """The best mean of each seed's expected return over a twentieth of its updates in turn; None where not known."""
    rows = [read_rows(directory) for directory in member_directories(path, config)]
    known = [[row["expected_return"] for row in own if row.get("expected_return") is not None] for own in rows]
    means = [[sum(few) / len(few) for few in _windows(values)] for values in known]
    return [max(own, default=None) for own in means]


def _windows(values: list[float]) -> list[list[float]]:
    """All runs of a twentieth of the values in turn."""
    size = max(len(values) // 20, 1)
    return [values[i : i + size] for i in range(len(values) - size + 1)]


def _train(path: Path, config: Config) -> bool:
    """Trains a run in a process of its own, or resumes it; does nothing, and returns False, where it is finished."""
    begun = (path / CONFIG).is_file()
    if begun and from_dict(read_yaml(path / CONFIG)) != config:
        raise UserError(f"study: {path} was trained with other settings than the study has now; give another --out")
    if (path / EVAL).is_file():
        return False
    command = [sys.executable, "-m", "mjxppo.cli", "train", "--run-dir", str(path)]
    if begun:
        command += ["--resume"]
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".yaml")
        write_bytes(file, to_yaml(config).encode())
        command += ["--config", str(file)]
    say(f"study: {path}")
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise UserError(f"study: the run {path} did not finish; the same command goes on from there")
    return True


def _perturbed(study: Study, directory: Path) -> dict[str, Any]:
    """Evaluates each variant's policies on each grid of robots, compares and draws them; finished grids are reused."""
    perturb = study.perturb
    assert perturb is not None
    compared = {}
    for name, axes in perturb.axes().items():
        grids = {}
        for variant in study.variants:
            file = directory / variant / f"{name}.json"
            wanted = {"axes": {axis.name: list(axis.values) for axis in axes}, "episodes": perturb.episodes}
            grid = read_json(file) or {}
            if {key: grid.get(key) for key in wanted} != wanted:
                say(f"study: {file}")
                policies = [(one.policy, one.config) for one in load_all(directory / variant)]
                grid = robustness.measure_grid(policies, axes, perturb.episodes, _FIRST_SEED)
                write_json(file, grid)
            grids[variant] = grid
        picture = directory / f"{name}.png"
        draw_shares(grids, picture)
        compared[name] = {"compared": robustness.compare_grids(grids), "grids": grids, "plot": str(picture)}
    return compared


def _steps_to_target(study: Study, config: Config, path: Path) -> dict[str, Any]:
    """The environment steps until each seed reached the study's target return; None where it never did."""
    if study.target_return is None:
        return {}
    rows = [read_rows(directory) for directory in member_directories(path, config)]
    return {"steps_to_target": [steps_to_return(own, study.target_return, TARGET_EPISODES) for own in rows]}


def _draw(study: Study, directory: Path) -> list[str]:
    """Draws the learning curves of each setting; returns the files."""
    plots = []
    for setting in study.settings:
        out = directory / f"{setting}.png"
        draw_overview({name: directory / setting / name for name in study.variants}, study.metrics, setting, out)
        plots.append(str(out))
    return plots


def to_markdown(study: Study, content: dict[str, Any]) -> str:
    """The results of ``run_study`` as Markdown tables, one or two for each setting."""
    lines = [f"**{study.question}**", ""]
    to_target = study.target_return is not None
    if to_target:
        average = f"the last {TARGET_EPISODES} training episodes average {study.target_return:g}"
        lines += [f"Steps: environment steps until {average}.", ""]
    for setting, variants in content["results"].items():
        lines += [
            f"{setting}, {study.num_seeds} seeds:",
            "",
            "| variant | interquartile mean (95 % interval) | mean | worst | each seed | best while training |"
            + " steps |" * to_target,
            "|---|---|---|---|---|---|" + "---|" * to_target,
        ]
        for variant, result in variants.items():
            group = result["groups"][0]
            interval = "" if group["iqm_ci95"] is None else " ({} to {})".format(*map(score, group["iqm_ci95"]))
            each = ", ".join(score(value) for value in group["means"])
            best = ", ".join("none" if value is None else score(value) for value in result.get("best", []))
            steps = ", ".join("never" if count is None else f"{count:,}" for count in result.get("steps_to_target", []))
            numbers = f"{score(group['iqm'])}{interval} | {score(group['mean'])} | {score(group['worst'])}"
            lines.append(f"| {variant} | {numbers} | {each} | {best} |" + f" {steps} |" * to_target)
        lines.append("")
        if "perturbed" in content:
            lines += [*_robustness_table(content["perturbed"][setting]), ""]
    return "\n".join(lines)


def _robustness_table(perturbed: dict[str, Any]) -> list[str]:
    """The lines of a Markdown table with the results on robots that differ from the model."""
    first = next(iter(next(iter(perturbed.values()))["grids"]))
    lines = [
        f"On robots that differ from the model, as shares of each variant's own return on the model. *Fallen* are the "
        f"robots on which `{first}` keeps less than half:",
        "",
        "| robots | variant | return on the model | share on all: mean, least | share on fallen: mean, least "
        "| of the fallen, kept to 80 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, grid in perturbed.items():
        for variant, row in grid["compared"].items():
            fallen = "none" if row["fallen_mean"] is None else f"{row['fallen_mean']:.0%}, {row['fallen_least']:.0%}"
            lines.append(
                f"| {name} | {variant} | {score(row['nominal'])} | {row['mean']:.0%}, {row['least']:.0%} | {fallen} "
                f"| {row['kept']} of {row['fallen']} |"
            )
    return lines
