"""Statistics over the evaluations of several policies: over the seeds of each point of a grid.

The interquartile mean and its bootstrap interval follow Agarwal et al. 2021, "Deep reinforcement learning at the
edge of the statistical precipice" (https://arxiv.org/abs/2108.13264).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap, trim_mean

from mjxppo.config.schema import Config
from mjxppo.config.sweep import Member, members_of
from mjxppo.console import score

_RESAMPLES = 10_000


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of the scores along ``axis``.

    It depends less on single seeds than the mean, and varies less than the median.
    """
    return np.asarray(trim_mean(scores, 0.25, axis=axis))


def iqm_interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """95 % bootstrap interval of the interquartile mean over seeds; None where fewer than two scores differ."""
    if len(set(scores)) < 2:
        return None
    options: dict[str, Any] = {"n_resamples": _RESAMPLES, "method": "percentile", "rng": np.random.default_rng(0)}
    interval = bootstrap((np.asarray(scores),), interquartile_mean, **options).confidence_interval
    return float(interval.low), float(interval.high)


def summarize_members(config: Config, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The contents of eval.json of a run with several policies: statistics of each point of the grid.

    ``results`` are those of ``evaluate`` for each member, in the order of ``members_of(config)``.
    """
    members = list(zip(members_of(config), results, strict=True))
    # The order of members is one point of the grid after the other, each with all seeds.
    groups = [members[i : i + config.num_seeds] for i in range(0, len(members), config.num_seeds)]
    return {
        "env": config.env,
        "engine": results[0]["engine"],
        "episodes": results[0]["episodes"],
        "groups": [_statistics(config, group) for group in groups],
    }


def _statistics(config: Config, group: Sequence[tuple[Member, dict[str, Any]]]) -> dict[str, Any]:
    """Settings, seeds and statistics of the members at one point of the grid."""
    first = group[0][0].config
    means = [result["mean"] for _, result in group]
    return {
        "settings": {name: getattr(first.ppo, name.removeprefix("ppo.")) for name in config.grid},
        "seeds": [member.config.seed for member, _ in group],
        "policies": [member.name for member, _ in group],
        "means": means,
        "mean": float(np.mean(means)),
        "worst": min(means),
        "best": max(means),
        "iqm": float(interquartile_mean(np.asarray(means))),
        "iqm_ci95": iqm_interval(means),
    }


def format_table(summary: dict[str, Any]) -> str:
    """The groups of ``summarize_members`` as a table of text, one line each."""
    names = [name.removeprefix("ppo.") for name in summary["groups"][0]["settings"]]
    header = [*names, "seeds", "mean", "worst", "best", "IQM", "95 % interval"]
    rows = [header]
    for group in summary["groups"]:
        interval = group["iqm_ci95"]
        rows.append(
            [f"{value:g}" for value in group["settings"].values()]
            + [str(len(group["seeds"]))]
            + [score(group[name]) for name in ("mean", "worst", "best", "iqm")]
            + ["-" if interval is None else f"{interval[0]:.0f} to {interval[1]:.0f}"]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
