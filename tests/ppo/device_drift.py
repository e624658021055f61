"""Prints how parameters trained on 2 and on 8 devices differ, for docs/reliability.md.

``XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/ppo/device_drift.py half_cheetah hopper``.
Rollouts are the same to the bit, but sums over worlds are added up in another order, and legged robots amplify the
difference in the last bits.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from mjxppo.config.check import make_config
from mjxppo.config.values import defaults_for, merge
from mjxppo.run import start
from mjxppo.run.arrays import named_arrays

UPDATES = (1, 2, 5, 10, 20, 50)
DEVICES = (2, 8)
_SMALL = {"log": {"every_updates": 1}, "ppo": {"num_envs": 512, "block_size": 64}}


def states_after(task: str, num_devices: int) -> dict[int, tuple[bytes, Any]]:
    """The worlds' bits, and the flat parameters [P], after each number of ``UPDATES``."""
    values = merge(defaults_for(task), {**_SMALL, "num_devices": num_devices})
    program = start.build(make_config(values))
    state, budget = program.init(), program.budget(10**9)
    found = {}
    for update in range(1, max(UPDATES) + 1):
        state, _ = program.train_chunk(state, budget)
        if update in UPDATES:
            params = np.concatenate([x.ravel() for x in named_arrays(state.learner.params).values()])
            found[update] = (b"".join(x.tobytes() for x in named_arrays(state.env_state).values()), params)
    return found


def main(tasks: list[str]) -> None:
    """Prints, for each task and number of updates, whether worlds are equal and how far the parameters are apart."""
    rows = []
    for task in tasks:
        few, many = (states_after(task, count) for count in DEVICES)
        for update in UPDATES:
            (worlds, params), (other_worlds, other_params) = few[update], many[update]
            apart = float(np.linalg.norm(params - other_params) / np.linalg.norm(params))
            rows.append({"env": task, "updates": update, "worlds_equal": worlds == other_worlds, "parameters": apart})
    json.dump(rows, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(sys.argv[1:] or ["half_cheetah", "hopper"])
