"""``mjxppo export``: a trained policy as a file that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mjxppo.commands.options import POSITIONAL
from mjxppo.commands.parsing import parse
from mjxppo.console import print_json


@dataclass(frozen=True)
class ExportArguments:
    """Writes the deterministic policy, with its observation normaliser, for other programs."""

    path: Annotated[Path, POSITIONAL]
    """A run directory, its ckpt/, or one step's folder."""
    best: bool = False
    """Take the policy of the run's best evaluation while training, instead of the newest."""
    out: Path | None = None
    """File to write: .npz (NumPy arrays), .onnx, or .stablehlo (for jax.export); default: policy.npz in the run
    directory, best.npz with --best."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ExportArguments, arguments, "mjxppo export")
    from mjxppo.policy.export import POLICY, check_output, export

    if parsed.out is not None:
        check_output(parsed.out)
    from mjxppo.run.directory import BEST
    from mjxppo.run.load import load

    loaded = load(parsed.path, parsed.best)
    own = loaded.run_dir / (f"{BEST}.npz" if parsed.best else POLICY)
    out, config = parsed.out or own, loaded.config
    result = export(loaded.policy, config.env, out, config.env_options)
    print_json({"checkpoint": str(loaded.step), **result})
    return 0
