"""``mjxppo render``: a video of a trained policy."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from mjxppo.commands.parsing import parse
from mjxppo.config import Config
from mjxppo.errors import UserError


@dataclass(frozen=True)
class RenderArguments:
    """Which policy, and where the film goes."""

    path: Positional[Path]
    """A run directory, its ckpt/, or one step's folder."""
    out: Path | None = None
    """File to write: .mp4, .gif, or .html; default: video.mp4 in the run directory."""
    seed: int = 1_000_000
    """Seed of the episode."""
    max_steps: int | None = None
    """Stop filming after so many steps; default: the whole episode."""
    width: int = 640
    """Width of the picture (pixels)."""
    height: int = 480
    """Height of the picture (pixels)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(
        RenderArguments, arguments, prog="mjxppo render", description="Films one episode in Gymnasium's C MuJoCo."
    )
    from mjxppo.locate import load
    from mjxppo.run_dir import VIDEO

    loaded = load(parsed.path)
    out = parsed.out or loaded.run_dir / VIDEO
    size = {"width": parsed.width, "height": parsed.height, "max_steps": parsed.max_steps}
    result = film(loaded.policy, loaded.config, out, seed=parsed.seed, **size)
    json.dump({"checkpoint": str(loaded.step), **result}, sys.stdout, indent=1)
    print()
    return 0


def film(policy: Any, config: Config, out: Path, max_seconds: float | None = None, **options: Any) -> dict[str, Any]:
    """Films one episode of ``policy`` on the run's task.

    Args:
        policy: actions [N, action_size] for observations [N, obs_size].
        config: the run's configuration.
        out: the file to write.
        max_seconds: stop after so much simulated time.
        options: as ``mjxppo.render.render`` takes them.

    Raises:
        UserError: the task is none of Gymnasium's, or the file cannot be written.
    """
    from mjxppo.envs.registry import gym_id_of, make
    from mjxppo.render import render

    gym_id = gym_id_of(config.env)
    if gym_id is None:
        raise UserError(f"render: only Gymnasium's tasks can be filmed, not {config.env}")
    if max_seconds is not None:
        options["max_steps"] = max(1, round(max_seconds / make(config.env, **config.env_options).step_duration))
    return render(policy, gym_id, out, gym_kwargs=config.env_options, **options)
