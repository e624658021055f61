"""``mjxppo render``: a video of a trained policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class RenderArguments:
    """Films one episode in Gymnasium's C MuJoCo."""

    path: Annotated[Path, POSITIONAL]
    """A run directory, its ckpt/, one step's folder, or an exported .npz."""
    best: bool = False
    """Take the policy of the run's best evaluation while training, instead of the newest."""
    out: Path | None = None
    """File to write: .mp4, .gif, or .html; default: film-CHECKPOINT.mp4 (best-CHECKPOINT.mp4
    with --best) in the run directory, or an .mp4 beside the .npz."""
    seed: int = 1_000_000
    """Seed of the episode."""
    max_steps: int | None = None
    """Environment steps to film; default: the whole episode."""
    width: int = 640
    """Width of the picture (pixels)."""
    height: int = 480
    """Height of the picture (pixels)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(RenderArguments, arguments, "mjxppo render")
    from mjxppo.policy.npz import is_exported
    from mjxppo.render import film
    from mjxppo.run.load import find_policy

    found = find_policy(parsed.path, parsed.best)
    own = (
        found.source
        if is_exported(found.source)
        else found.run_dir / f"{'best' if parsed.best else 'film'}-{found.source.name}"
    )
    out = parsed.out or own.with_suffix(".mp4")
    size = {"width": parsed.width, "height": parsed.height, "max_steps": parsed.max_steps}
    result = film(found.policy, found.config, out, seed=parsed.seed, **size)
    print_json({"checkpoint": str(found.source), **result})
    return 0
