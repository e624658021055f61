"""Logging to Weights & Biases, with ``log.wandb``; not imported otherwise.

Its errors never stop a run: the first one is printed, and logging to it ends.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mjxppo.config.schema import Config
from mjxppo.config.values import to_dict
from mjxppo.console import say
from mjxppo.errors import UserError

ID = "wandb-id"
"""File in the run's directory with its id in Weights & Biases, which a resumed run uses again."""


def check_installed(config: Config) -> None:
    """Raises UserError, which says how to install the package, where ``log.wandb`` is set and it is missing."""
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError("log.wandb: Weights & Biases is not installed; pip install 'mjxppo[wandb]'")


class WandbRun:
    """A run in Weights & Biases; its variables, such as ``WANDB_MODE`` and ``WANDB_PROJECT``, apply."""

    def __init__(self, run_dir: Path, config: Config):
        self._run: Any = None
        self._broken = False
        self._safely(lambda: self._open(run_dir, config))

    def _open(self, run_dir: Path, config: Config) -> None:
        import wandb  # an optional package

        path = run_dir / ID
        if not path.is_file():
            path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mjxppo"),
            id=path.read_text(encoding="utf-8"),
            resume="allow",
            reinit="create_new",
            name=run_dir.name,
            dir=str(run_dir),
            config=to_dict(config),
        )

    def log(self, row: dict[str, Any]) -> None:
        """Sends the numbers of one update."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        self._safely(lambda: self._run.log(numbers, step=row["env_steps"]))

    def log_evaluation(self, row: dict[str, Any]) -> None:
        """Sends the numbers of an evaluation while training.

        They are of an earlier step than the newest numbers, and Weights & Biases takes steps in their order only.
        """
        numbers = {name: value for name, value in row.items() if name.startswith("eval/") and value is not None}
        self._safely(lambda: self._run.log({"eval/env_steps": row["env_steps"], **numbers}))

    def conclude(self, results: dict[str, float], video: Path | None) -> None:
        """Sends the final evaluation and the video."""

        def send() -> None:
            import wandb  # an optional package

            self._run.summary.update(results)
            if video is not None:
                self._run.log({"video": wandb.Video(str(video), format="mp4")})

        self._safely(send)

    def close(self) -> None:
        """Ends the run in Weights & Biases."""
        self._safely(lambda: self._run.finish())

    def _safely(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken = True
            say(f"Weights & Biases: {' '.join(str(error).split())[:200]}; the run goes on without it")
