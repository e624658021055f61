"""``mjxppo evaluate``: the return of a trained policy, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mjxppo.commands.options import POSITIONAL, REPEATED
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json
from mjxppo.errors import UserError
from mjxppo.policy.engine import Engine

if TYPE_CHECKING:
    from mjxppo.policy.robustness import Axis
    from mjxppo.run.load import TrainedPolicy


@dataclass(frozen=True)
class EvaluateArguments:
    """Evaluates a policy, deterministically."""

    path: Annotated[Path, POSITIONAL]
    """A run directory, its ckpt/, one step's folder, or an exported .npz."""
    engine: Engine = "gymnasium"
    """gymnasium (its own environment, on C MuJoCo), own (what the run was trained in), planar, mjx, or mjx-warp."""
    episodes: int = 100
    """Episodes to run."""
    seed: int = 1_000_000
    """Seed of the first episode; the others follow on."""
    out: Path | None = None
    """Also write the JSON to this file."""
    as_trained: bool = False
    """Evaluate in the worlds of training (randomised over the whole ranges, with privileged observations); needs
    --engine own, planar or mjx."""
    perturb: Annotated[tuple[str, ...], REPEATED] = ()
    """NAME=LOW:HIGH: evaluate on robots that differ from the model by factors in this range (friction, mass, inertia,
    size, strength, damping, stiffness, armature, gravity; slope in degrees); once or twice, for a grid of returns."""
    perturb_points: int = 5
    """Values for each --perturb."""
    heat_map: Path | None = None
    """Where the picture of the grid goes, .png, .pdf or .svg; default: robustness.png in the run directory."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(EvaluateArguments, arguments, "mjxppo evaluate")
    from mjxppo.policy.npz import is_exported
    from mjxppo.run.load import find_policies

    axes = _axes(parsed)
    if parsed.as_trained and is_exported(parsed.path):
        raise UserError(
            "as_trained: an exported policy does not say the worlds of its training; give its run directory"
        )
    found = find_policies(parsed.path)
    result = _robustness(parsed, axes, found) if axes else _returns(parsed, found)
    result = {"checkpoint": str(found[0].source), **result}
    if parsed.out is not None:
        from mjxppo.files import write_json

        write_json(parsed.out, result)
    print_json(result)
    return 0


def _returns(parsed: EvaluateArguments, found: Sequence[TrainedPolicy]) -> dict[str, Any]:
    from mjxppo.policy.evaluate import evaluate_each

    policies = [(one.policy, one.config) for one in found]
    results = evaluate_each(policies, parsed.engine, parsed.episodes, parsed.seed, parsed.as_trained)
    if len(found) == 1:
        return results[0]
    return {"policies": {one.run_dir.name: own for one, own in zip(found, results, strict=True)}}


def _axes(parsed: EvaluateArguments) -> list[Axis]:
    """The quantities of --perturb with their values; checks the other options that go with it."""
    if not parsed.perturb:
        if parsed.heat_map is not None:
            raise UserError("heat_map: needs --perturb, whose grid it shows, such as --perturb friction=0.5:1.5")
        return []
    from mjxppo.policy.robustness import SUFFIXES, parse_axis

    if parsed.engine != "gymnasium":
        raise UserError(f"perturb: needs --engine gymnasium, not {parsed.engine}")
    if parsed.as_trained:
        raise UserError("as_trained: --perturb evaluates in C MuJoCo, not in the worlds of training; give only one")
    if parsed.heat_map is not None and parsed.heat_map.suffix.lower() not in SUFFIXES:
        raise UserError(f"heat_map: {parsed.heat_map} must end in {', '.join(SUFFIXES)}")
    return [parse_axis(text, parsed.perturb_points) for text in parsed.perturb]


def _robustness(parsed: EvaluateArguments, axes: Sequence[Axis], found: Sequence[TrainedPolicy]) -> dict[str, Any]:
    """Measures the grid of returns, draws it, and returns it."""
    from mjxppo.analysis.plot.robustness import draw_grid
    from mjxppo.console import say, waiting
    from mjxppo.policy import robustness

    with waiting(f"evaluating {parsed.episodes} episodes of each policy on each robot"):
        policies = [(one.policy, one.config) for one in found]
        result = robustness.measure_grid(policies, axes, parsed.episodes, parsed.seed)
    run_dir = found[0].run_dir if len(found) == 1 else found[0].run_dir.parent
    picture = parsed.heat_map or run_dir / robustness.FILE
    draw_grid(result, picture)
    say(f"returns drawn in {picture}")
    by_name = dict(zip((one.run_dir.name for one in found), result["policies"], strict=True))
    return {**result, "policies": by_name, "heat_map": str(picture)}
