"""Curves with bands, from the runs of several seeds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mjxppo.analysis.plot.curves import Evaluation, Run
from mjxppo.console import say

Band = Literal["range", "std", "ci95"]
_MAX_LABEL_SETTINGS = 3
LOGARITHMIC = ("value_loss", "grad_norm", "grad_norm_variance")
"""Metrics that are compared by their ratios: their means and bands are computed on the logarithms."""


@dataclass(frozen=True)
class Curve:
    """Curve of the runs that differ only in the seed."""

    label: str
    runs: list[Run]
    x: np.ndarray
    """[points]"""
    mean: np.ndarray
    """[points]"""
    low: np.ndarray
    """Lower edge of the band, [points]; the mean where there is one run."""
    high: np.ndarray
    """Upper edge of the band, [points]."""

    @property
    def logarithmic(self) -> bool:
        """Whether mean and band are computed on the logarithms, so that the mean is the geometric mean."""
        return _logarithmic(self.runs)

    @property
    def env(self) -> str:
        """The task."""
        return self.runs[0].env

    @property
    def seeds(self) -> list[int | None]:
        """The runs' seeds."""
        return [run.seed for run in self.runs]

    @property
    def directories(self) -> list[Path]:
        """The runs' directories."""
        return [run.directory for run in self.runs]

    @property
    def evaluation(self) -> Evaluation | None:
        """The run's evaluation, or the mean of the runs' means."""
        found = [run.evaluation for run in self.runs if run.evaluation is not None]
        if len(found) <= 1:
            return found[0] if found else None
        means = [evaluation.mean for evaluation in found]
        return Evaluation(float(np.mean(means)), float(np.std(means, ddof=1)), f"{len(means)} seeds")


def group(runs: list[Run], band: Band) -> list[Curve]:
    """Makes a curve of each set of runs with the same task and settings and different seeds, in the runs' order."""
    sets: dict[str, list[Run]] = {}
    for run in runs:
        if run.settings is None:
            key = str(run.directory)
        else:
            settings = json.dumps([run.env, run.settings], sort_keys=True, default=str)
            # A seed that the set has already starts another set: the same run twice would make a band look narrow.
            twins = sum(r.seed == run.seed for other in sets for r in sets[other] if other.startswith(settings))
            key = f"{settings} {twins}"
        sets.setdefault(key, []).append(run)
    parts = [part for members in sets.values() for part in _overlapping(members)]
    return [curve_of(label, members, band) for label, members in zip(_labels(parts), parts, strict=True)]


def _overlapping(members: list[Run]) -> list[list[Run]]:
    """The runs as one set, or each by itself where there is no x at which all of them have values."""
    if max(run.x[0] for run in members) > min(run.x[-1] for run in members):
        return [[run] for run in members]
    return [members]


def curve_of(label: str, members: list[Run], band: Band) -> Curve:
    """Makes one curve of runs that differ only in the seed."""
    if len(members) == 1:
        run = members[0]
        return Curve(label, members, run.x, run.smooth, run.smooth, run.smooth)
    # Only where all seeds have values: else the mean would jump where a run begins or ends.
    first, last = max(run.x[0] for run in members), min(run.x[-1] for run in members)
    if any(run.x[-1] > 1.05 * last for run in members):
        say(f"{label}: drawn up to {last:g}, where the shortest of its {len(members)} seeds ends")
    x = np.unique(np.concatenate([run.x[(run.x >= first) & (run.x <= last)] for run in members]))
    values = np.stack([np.interp(x, run.x, run.smooth) for run in members])
    if _logarithmic(members):
        return Curve(label, members, x, *np.exp(_mean_and_band(np.log(values), band)))
    return Curve(label, members, x, *_mean_and_band(values, band))


def _logarithmic(runs: list[Run]) -> bool:
    return runs[0].metric in LOGARITHMIC and all((run.smooth > 0).all() for run in runs)


def _mean_and_band(values: np.ndarray, band: Band) -> np.ndarray:
    """Mean, lower and upper edge over the seeds, [3, points], of ``values`` [seeds, points]."""
    mean = values.mean(axis=0)
    if band == "range":
        return np.stack([mean, values.min(axis=0), values.max(axis=0)])
    half = values.std(axis=0, ddof=1)
    if band == "ci95":
        from scipy.stats import t  # takes half a second to import, which ``plot --help`` would pay

        half = half * t.ppf(0.975, len(values) - 1) / np.sqrt(len(values))
    return np.stack([mean, mean - half, mean + half])


def _labels(sets: list[list[Run]]) -> list[str]:
    """A label for each set: the settings in which it differs from the others of its task, or its directory's name."""
    firsts = [members[0] for members in sets]
    directories = [_directory_of(members, sets) for members in sets]
    common = os.path.commonpath([directory.parent for directory in directories])
    names = [str(directory.relative_to(common)) for directory in directories]
    labels = [
        _label(run, name, [rival for rival in firsts if rival.env == run.env])
        for run, name in zip(firsts, names, strict=True)
    ]
    used = [(run.env, label) for run, label in zip(firsts, labels, strict=True)]
    return [
        label if used.count((run.env, label)) == 1 else name if label == run.env else f"{label} ({name})"
        for run, name, label in zip(firsts, names, labels, strict=True)
    ]


def _directory_of(members: list[Run], sets: list[list[Run]]) -> Path:
    """The directory that holds these runs and no others, or the first run's directory where there is none."""
    common = Path(os.path.commonpath([run.directory for run in members]))
    others = [run.directory for other in sets if other is not members for run in other]
    return members[0].directory if any(common in other.parents for other in others) else common


def _label(run: Run, name: str, rivals: list[Run]) -> str:
    """The settings in which ``run`` differs from ``rivals``, or ``name`` where these are unknown or too many."""
    if run.settings is None:
        return name
    everything = [rival.settings or {} for rival in rivals]
    absent = object()
    differing = [
        setting
        for setting in sorted({setting for settings in everything for setting in settings})
        if any(settings.get(setting, absent) != run.settings.get(setting, absent) for settings in everything)
    ]
    if not differing:
        return run.env
    if len(differing) > _MAX_LABEL_SETTINGS:
        return name
    return ", ".join(
        f"{setting.removeprefix('ppo.')} = {run.settings.get(setting, 'default')}" for setting in differing
    )
