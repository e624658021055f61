"""Records states that trained policies visit in Gymnasium's C MuJoCo, for the physics parity tests.

    python tests/data/record_states.py RUN [RUN ...]

replaces trained_policy_states.npz by states of the runs' newest checkpoints: for each task qpos, qvel,
qacc_warmstart and ctrl of 1000 random moments of 20 episodes, under the names ``task/field``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mjxppo.policy import evaluate
from mjxppo.run import load

EPISODES, MOMENTS = 20, 1000


def visited(loaded: load.Loaded) -> dict[str, np.ndarray]:
    """States of some episodes with a little noise on the actions, so that episodes differ."""
    rng = np.random.default_rng(0)
    env = evaluate.make_gymnasium_env(loaded.config)
    data = env.unwrapped.data
    rows: list[dict[str, np.ndarray]] = []
    for seed in range(EPISODES):
        obs, _ = env.reset(seed=seed)
        done = False
        while not done:
            ctrl = np.clip(loaded.policy(obs[None])[0] + 0.1 * rng.normal(size=env.action_space.shape), -1, 1)
            rows.append(
                {
                    "qpos": data.qpos.copy(),
                    "qvel": data.qvel.copy(),
                    "qacc_warmstart": data.qacc_warmstart.copy(),
                    "ctrl": ctrl.astype(np.float64),
                }
            )
            obs, _, terminated, truncated, _ = env.step(ctrl)
            done = terminated or truncated
    chosen = rng.choice(len(rows), MOMENTS, replace=False)
    return {name: np.stack([rows[i][name] for i in chosen]) for name in rows[0]}


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    for run in sys.argv[1:]:
        loaded = load.load(Path(run))
        arrays |= {f"{loaded.config.env}/{name}": array for name, array in visited(loaded).items()}
    np.savez_compressed(Path(__file__).parent / "trained_policy_states.npz", **arrays)


if __name__ == "__main__":
    main()
