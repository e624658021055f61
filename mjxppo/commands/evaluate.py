"""``mjxppo evaluate``: the return of a trained policy, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from mjxppo.commands.parsing import parse
from mjxppo.evaluate import Engine


@dataclass(frozen=True)
class EvaluateArguments:
    """Which policy, and how to test it."""

    path: Positional[Path]
    """A run directory, its ckpt/, or one step's folder."""
    engine: Engine = "gymnasium"
    """gymnasium (Gymnasium's own environment on C MuJoCo), or this package's planar, mjx, mjx-warp physics."""
    episodes: int = 100
    """Episodes to run."""
    seed: int = 1_000_000
    """Seed of the first episode; the others follow on."""
    out: Path | None = None
    """Also write the JSON to this file."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(
        EvaluateArguments, arguments, prog="mjxppo evaluate", description="Evaluates a policy, deterministically."
    )
    from mjxppo.evaluate import evaluate_each
    from mjxppo.locate import load_all
    from mjxppo.run_dir import write_json

    loaded = load_all(parsed.path)
    policies = [(one.policy, one.config) for one in loaded]
    results = evaluate_each(policies, parsed.engine, parsed.episodes, parsed.seed)
    result: dict[str, Any] = {"checkpoint": str(loaded[0].step)}
    if len(loaded) == 1:
        result |= results[0]
    else:
        result["policies"] = {one.run_dir.name: own for one, own in zip(loaded, results, strict=True)}
    if parsed.out is not None:
        write_json(parsed.out, result)
    json.dump(result, sys.stdout, indent=1)
    print()
    return 0
