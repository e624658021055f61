"""``mjxppo evaluate``: the return of a trained policy, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mjxppo.commands.options import POSITIONAL, REPEATED
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json, say, score, waiting
from mjxppo.errors import UserError
from mjxppo.policy.engine import Engine

if TYPE_CHECKING:
    from mjxppo.policy.robustness import Axis
    from mjxppo.run.load import TrainedPolicy

EPISODES = ("returns", "lengths", "seeds")
"""Parts of an evaluation with a value for each episode."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Evaluates a policy, deterministically."""

    path: Annotated[Path, POSITIONAL]
    """A run directory, its ckpt/, one step's folder, or an exported .npz."""
    best: bool = False
    """Take the policy of the run's best evaluation while training, instead of the newest."""
    engine: Engine = "gymnasium"
    """gymnasium (one world in C MuJoCo), own (what the run was trained in), planar, spatial, mjx, or mjx-warp."""
    episodes: int = 100
    """Episodes to run."""
    seed: int = 1_000_000
    """Seed of the first episode; the others follow on."""
    out: Path | None = None
    """Write everything to this file as JSON, the single episodes included."""
    json: bool = False
    """Print everything as JSON, the single episodes included."""
    as_trained: bool = False
    """Evaluate in the worlds of training (randomised over the whole ranges, with privileged observations); needs
    --engine own, planar, spatial or mjx."""
    perturb: Annotated[tuple[str, ...], REPEATED] = ()
    """NAME=LOW:HIGH: evaluate on robots that differ from the model by factors in this range (friction, mass, inertia,
    size, strength, damping, stiffness, armature, gravity; slope in degrees); once or twice, for a grid of returns."""
    perturb_points: int = 5
    """Values for each --perturb."""
    heat_map: Path | None = None
    """Where the picture of the grid goes, .png, .pdf or .svg; default: robustness.png in the run directory
    (best-robustness.png with --best)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(EvaluateArguments, arguments, "mjxppo evaluate")
    from mjxppo.envs.build import prepare
    from mjxppo.policy.npz import is_exported
    from mjxppo.run.load import find_policies

    axes = _axes(parsed)
    if parsed.as_trained and is_exported(parsed.path):
        raise UserError(
            "as_trained: an exported policy does not say the worlds of its training; give its run directory"
        )
    prepare({"physics": {"backend": parsed.engine}})  # before a checkpoint is read, which starts JAX's backend
    found = find_policies(parsed.path, parsed.best)
    result = _robustness(parsed, axes, found) if axes else _returns(parsed, found)
    result = {"checkpoint": str(found[0].source), **result}
    if parsed.out is not None:
        from mjxppo.files import write_json

        write_json(parsed.out, result)
    print_json(result if parsed.json else _without_episodes(result))
    if not axes:
        for one in found:
            own = result if len(found) == 1 else result["policies"][one.run_dir.name]
            say(_line(one, own, alone=len(found) == 1))
    return 0


def _without_episodes(result: dict[str, Any]) -> dict[str, Any]:
    """The result, and those of its policies, without the lists of single episodes."""
    kept = {name: value for name, value in result.items() if name not in EPISODES}
    policies = kept.get("policies", {})  # results, or the grids of a robustness map
    short = {name: _without_episodes(own) if isinstance(own, dict) else own for name, own in policies.items()}
    return kept | {"policies": short} if policies else kept


def _line(found: TrainedPolicy, result: dict[str, Any], alone: bool) -> str:
    """Mean, spread and worst of one policy."""
    from mjxppo.policy.engine import physics_of

    where = physics_of(result["engine"], found.config.env)
    broken = f"; {len(result['broken_seeds'])} more broke" if result["broken_seeds"] else ""
    return (
        f"{'' if alone else found.run_dir.name + ': '}return in {where}: {score(result['mean'])} "
        f"± {score(result['std'])} (standard deviation) over {result['episodes']} episodes, "
        f"worst {score(result['min'])}{broken}"
    )


def _returns(parsed: EvaluateArguments, found: Sequence[TrainedPolicy]) -> dict[str, Any]:
    from mjxppo.policy.evaluate import evaluate_each

    policies = [(one.policy, one.config) for one in found]
    with waiting(f"evaluating {parsed.episodes} episodes" + (" of each policy" if len(found) > 1 else "")):
        results = evaluate_each(policies, parsed.engine, parsed.episodes, parsed.seed, parsed.as_trained)
    for one, result in zip(found, results, strict=True):
        if result["broken_seeds"]:
            say(f"left out {len(result['broken_seeds'])} episodes of {one.source}, whose worlds broke")
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
    from mjxppo.policy import robustness

    with waiting(f"evaluating {parsed.episodes} episodes of each policy on each robot"):
        policies = [(one.policy, one.config) for one in found]
        result = robustness.measure_grid(policies, axes, parsed.episodes, parsed.seed)
    run_dir = found[0].run_dir if len(found) == 1 else found[0].run_dir.parent
    picture = parsed.heat_map or run_dir / (f"best-{robustness.FILE}" if parsed.best else robustness.FILE)
    draw_grid(result, picture)
    say(f"returns drawn in {picture}")
    by_name = dict(zip((one.run_dir.name for one in found), result["policies"], strict=True))
    return {**result, "policies": by_name, "heat_map": str(picture)}
