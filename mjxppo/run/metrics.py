"""A run's metrics: metrics.jsonl, metrics.csv, TensorBoard files, and Weights & Biases."""

from __future__ import annotations

import csv
import io
import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mjxppo.config.schema import Config
from mjxppo.config.values import changed_settings, flatten, to_dict
from mjxppo.files import AppendFile, attempt
from mjxppo.run.tensorboard import TensorBoardFile

if TYPE_CHECKING:
    from mjxppo.run.wandb import WandbRun

JSONL, CSV, TENSORBOARD = "metrics.jsonl", "metrics.csv", "tb"

_MATTER_MOST = (
    *("seed", "total_env_steps", "algorithm", "ppo.learning_rate", "ppo.num_envs", "ppo.rollout_length", "ppo.gamma"),
    *("ppo.num_epochs", "ppo.num_minibatches", "ppo.clip_eps", "ppo.entropy_coef", "policy.hidden_sizes"),
)
_NO_HYPERPARAMETERS = ("num_devices", "on_write_error", "log.", "checkpoint.", "eval.")
"""Beginnings of settings that change no result."""
RETURN = "eval/return_mean"
"""The key that the rows of evaluations have, and those of updates do not."""

Row = dict[str, Any]


def clean(row: Row) -> Row:
    """The row with plain Python numbers, and None for what is not a number (JSON knows no NaN)."""
    cleaned: Row = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        cleaned[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return cleaned


def read_rows(run_dir: Path) -> list[Row]:
    """The rows of a run's updates, as ``read_all``, oldest first."""
    return [row for row in read_all(run_dir) if RETURN not in row]


def read_evaluations(run_dir: Path) -> list[Row]:
    """The rows of a run's evaluations while training, as ``read_all``, oldest first."""
    return sorted((row for row in read_all(run_dir) if RETURN in row), key=lambda row: int(row["update"]))


def read_all(run_dir: Path) -> list[Row]:
    """All whole rows of a run's metrics.jsonl up to the first damaged one, such as a last one cut short by a kill.

    A row of an evaluation may stand behind those of later updates, which were made while it ran.
    """
    path = run_dir / JSONL
    rows: list[Row] = []
    if not path.is_file():
        return rows
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("update"), int):
            break
        rows.append(row)
    return rows


class MetricsWriter:
    """Appends one row per update to a run's files."""

    def __init__(self, run_dir: Path, resume_after: int = 0, config: Config | None = None):
        """Opens the files; raises UserError where they cannot be written.

        Args:
            run_dir: the run's directory.
            resume_after: the rows of the first ``resume_after`` updates are kept, later ones are dropped.
            config: turns TensorBoard and Weights & Biases on, which show it; None: TensorBoard without it.
        """
        found = [row for row in read_all(run_dir) if row["update"] <= resume_after] if resume_after else []
        kept = [row for row in found if RETURN not in row]
        self.missing = resume_after - len(kept)
        """Updates before ``resume_after`` whose rows are lost, because the file was damaged."""
        self._run_dir = run_dir
        self._columns = list(kept[0]) if kept else []
        self._jsonl = AppendFile(run_dir / JSONL, _json_lines(found))
        self._csv = AppendFile(run_dir / CSV, self._csv_lines(kept, header=bool(kept)))
        self._tensorboard: TensorBoardFile | None = None
        if config is None or config.log.tensorboard:
            purge = int(kept[-1]["env_steps"]) + 1 if kept else None
            self._tensorboard = TensorBoardFile(run_dir / TENSORBOARD, purge, hyperparameters(config))
        self._wandb = _wandb(run_dir, config)

    def write(self, rows: list[Row]) -> None:
        """Appends the rows of some updates, oldest first; TensorBoard and Weights & Biases get only the newest.

        Raises WriteFailed where there is no room; the rows then wait for the next call.
        """
        if not rows:
            return
        rows = [clean(row) for row in rows]
        header = not self._columns
        self._columns = self._columns or list(rows[0])
        self._add_columns([name for name in rows[0] if name not in self._columns])
        newest = rows[-1]
        scalars = {
            _tag(name): value
            for name, value in newest.items()
            if isinstance(value, int | float) and name not in ("update", "env_steps")
        }
        appends = [
            partial(self._jsonl.append, _json_lines(rows)),
            partial(self._csv.append, self._csv_lines(rows, header)),
        ]
        if self._tensorboard is not None:
            appends.append(partial(self._tensorboard.append, newest["env_steps"], scalars))
        if self._wandb is not None:
            self._wandb.log(newest)
        attempt(appends)

    def write_evaluation(self, row: Row) -> None:
        """Appends the row of an evaluation; not to metrics.csv, whose lines are updates.

        Raises WriteFailed as ``write``.
        """
        row = clean(row)
        scalars = {name: value for name, value in row.items() if name.startswith("eval/") and value is not None}
        appends = [partial(self._jsonl.append, _json_lines([row]))]
        if self._tensorboard is not None:
            appends.append(partial(self._tensorboard.append, row["env_steps"], scalars))
        if self._wandb is not None:
            self._wandb.log_evaluation(row)
        attempt(appends)

    def write_film(self, env_steps: int, content: tuple[bytes, int, int]) -> None:
        """Adds a clip, as ``render.video.animation`` returns it, to TensorBoard; raises WriteFailed as ``write``."""
        if self._tensorboard is not None:
            self._tensorboard.append_animation(env_steps, "eval/film", content)

    def _add_columns(self, names: list[str]) -> None:
        """Rewrites metrics.csv with further columns, where a run of an older version, which has fewer, is resumed."""
        if names:
            self._columns += names
            self._csv.close()
            self._csv = AppendFile(self._run_dir / CSV, self._csv_lines(read_rows(self._run_dir), header=True))

    def sync(self) -> None:
        """Flushes all rows to the disk; raises WriteFailed where there is no room.

        Called before each checkpoint, because a run that resumes from it could not write these rows again.
        """
        attempt([self._jsonl.sync, self._csv.sync])

    def _csv_lines(self, rows: list[Row], header: bool) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self._columns)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def close(self) -> None:
        """Closes all files."""
        self._jsonl.close()
        self._csv.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.close()


def _wandb(run_dir: Path, config: Config | None) -> WandbRun | None:
    if config is None or not config.log.wandb:
        return None
    from mjxppo.run.wandb import WandbRun  # only with log.wandb

    return WandbRun(run_dir, config)


def hyperparameters(config: Config | None) -> dict[str, bool | float | str]:
    """What TensorBoard compares runs by, by dotted names: what matters most, and what differs from what is shipped.

    Empty for None. TensorBoard shows the first five unless one asks for more.
    """
    if config is None:
        return {}
    flat = flatten(to_dict(config))
    changed = [name for name in changed_settings(config) if not name.startswith(_NO_HYPERPARAMETERS)]
    values = {name: flat[name] for name in dict.fromkeys(["env", *changed, *_MATTER_MOST])}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in values.items()
    }


def conclude(run_dir: Path, config: Config, result: dict[str, Any], env_steps: int, video: Path | None) -> None:
    """Adds the final evaluation and the video (mp4) of one policy to TensorBoard and Weights & Biases.

    ``run_dir`` is the policy's directory, ``config`` its configuration, ``result`` from ``evaluate`` (empty: none),
    ``env_steps`` the number at the end of training. Raises UserError where the files cannot be written.
    """
    scores = {f"eval/{name}": float(result[name]) for name in ("mean", "std", "min", "max") if name in result}
    if config.log.tensorboard:
        file = TensorBoardFile(run_dir / TENSORBOARD, suffix=".end")
        file.append(env_steps, scores)
        if video is not None:
            file.append_video(env_steps, "video", video)
        file.close()
    wandb = _wandb(run_dir, config)
    if wandb is not None:
        wandb.conclude(scores, video)
        wandb.close()


def _json_lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _tag(name: str) -> str:
    """TensorBoard's section for a metric."""
    if name.startswith("episode") or name == "expected_return":
        return f"episode/{name}"
    if name in ("env_steps_per_s", "time_s", "nonfinite_steps"):
        return f"run/{name}"
    return f"learning/{name}"
