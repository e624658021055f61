"""How behaviour cloning fails, and what more demonstrations change: a picture.

    python examples/cloning.py --teacher docs/policies/hopper_30m_seed1001.npz --env hopper --out cloning

Policies are cloned from the first 1, 4, 16 and 64 episodes of a teacher. The left picture shows their returns. The
right one shows their error (the mean absolute difference from what the teacher would do) in the states that they visit
themselves, against the distance to the nearest demonstrated state, in standard deviations of the demonstrated states.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import cKDTree

from mjxppo.config.cloning import CloningConfig
from mjxppo.config.layers import resolve
from mjxppo.envs.registry import canonical_name
from mjxppo.policy.record import record
from mjxppo.run.cloning import clone, controller_of

_BINS = 8


def measure(
    teacher: Any, changes: Mapping[str, Any], counts: Sequence[int], out: Path, gradient_steps: int
) -> dict[str, Any]:
    """The returns of teacher and clones, and the clones' errors by distance; the clones' runs go into ``out``.

    ``changes`` are those of ``clone``, with the task; ``counts`` the numbers of demonstrations. Every clone takes about
    ``gradient_steps``, and so more epochs where there are fewer demonstrations.
    """
    config = resolve(str(changes["env"]), changes)
    data, returns = record(teacher, config, max(counts), seed=0)
    result: dict[str, Any] = {"env": config.env, "teacher": returns.tolist(), "clones": {}}
    for count in counts:
        settings = CloningConfig(demonstrations=count)
        epochs = max(1, gradient_steps * settings.minibatch_size // len(data.first(count).obs))
        found = clone(data, changes, replace(settings, epochs=epochs), out / f"clone-{count}")
        visited, own = record(found.policy, found.config, config.eval.episodes, seed=config.eval.seed, teacher=teacher)
        known = data.first(count).obs
        scale = known.std(0) + 1e-3
        # A tenth of the demonstrated states are enough neighbours, and one of many visited ones enough points.
        distance, _ = cKDTree(known / scale).query(visited.obs[::10] / scale)
        error = np.abs(found.policy.of_inputs(visited.obs[::10]) - visited.action[::10]).mean(1)
        groups = np.array_split(np.argsort(distance), _BINS)
        result["clones"][count] = {
            "returns": own.tolist(),
            "distance": [float(distance[group].mean()) for group in groups],
            "error": [float(error[group].mean()) for group in groups],
        }
    return result


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draws a result of ``measure``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    clones = result["clones"]
    counts = [int(count) for count in clones]
    means = np.array([np.mean(one["returns"]) for one in clones.values()])
    spread = np.array([np.std(one["returns"]) for one in clones.values()])
    left.errorbar(counts, means, spread, fmt="o-", capsize=3, label="clone (± standard deviation of its episodes)")
    left.axhline(np.mean(result["teacher"]), color="gray", linestyle="--", label="teacher")
    left.set_xscale("log", base=2)
    left.set_xticks(counts, [str(count) for count in counts])
    left.set(xlabel="demonstrations (episodes)", ylabel=f"return, {result['env']}")
    left.legend(loc="center left")
    for count, one in clones.items():
        right.plot(one["distance"], one["error"], "o-", label=f"{count} demonstration{'s' * (int(count) > 1)}")
    right.set(xlabel="distance to the nearest demonstrated state (std. dev.)", ylabel="error of the action")
    right.set(xscale="log", yscale="log")
    right.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measures, and writes ``cloning.json`` and ``cloning.png`` beside the runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", required=True, help="a run, a .npz, module:function or file.py:function")
    parser.add_argument("--env", required=True, help="task")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of demonstrations")
    parser.add_argument("--episodes", type=int, default=20, help="episodes of each evaluation")
    parser.add_argument("--gradient-steps", type=int, default=10_000, help="gradient steps of each clone")
    parser.add_argument("--out", type=Path, default=Path("cloning"), help="directory for all results")
    given = parser.parse_args()
    evaluation = {"episodes": given.episodes, "video": False}
    changes = {"env": canonical_name(given.env), "eval": evaluation}
    teacher = controller_of(given.teacher)
    result = measure(teacher, changes, given.counts, given.out, given.gradient_steps)
    (given.out / "cloning.json").write_text(json.dumps(result, indent=1))
    draw(result, given.out / "cloning.png")


if __name__ == "__main__":
    main()
