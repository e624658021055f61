"""Measured training throughput beside the predictions: ``python scripts/compare_predictions.py train.json``.

The first argument is what ``mjxppo benchmark train --out`` has written on an H200; the predictions are those recorded
in tests/data/gpu_program.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mjxppo.config.values import read_named

RECORDED = Path(__file__).parents[1] / "tests" / "data" / "gpu_program.json"


def main(measured: str) -> None:
    """Prints a line for each configuration that was measured."""
    report = json.loads(Path(measured).read_text(encoding="utf-8"))
    predicted = {}
    for jax, programs in json.loads(RECORDED.read_text(encoding="utf-8")).items():
        for name, numbers in programs.items():
            config, backend = name.split(", ")
            if backend == "planar-pallas":
                values = read_named(config)
                predicted[values["env"], values["ppo"]["num_envs"]] = jax, numbers["predicted_env_steps_per_s"]
    for row in report["results"]:
        steps, program = row["env_steps_per_s"], (row["env"], row["num_envs"])
        if program in predicted:
            jax, expected = predicted[program]
            share = f"{steps / expected:.2f} of what was predicted ({jax})"
            print(f"{row['env']}, {row['num_envs']} worlds: {steps:,.0f} environment steps per second, {share}")


if __name__ == "__main__":
    main(sys.argv[1])
