"""Commands a trained quadruped in C MuJoCo, and prints how it moves.

python examples/quadruped.py runs/latest
"""

import sys

import gymnasium
import numpy as np

import mjxppo

COMMANDS = [(0, 0, 0), (0.5, 0, 0), (1.0, 0, 0), (-0.5, 0, 0), (0, 0.4, 0), (0, 0, 0.8), (0.6, 0, -0.8)]
STEPS, SETTLING = 250, 50
"""Environment steps of 0.02 s under each command, and how many of them are left out of the mean."""


def motions(path: str) -> list[np.ndarray]:
    """The mean velocity forward and to the left (m/s) and rate of turning left (rad/s) under each command, [3]."""
    policy = mjxppo.load_policy(path)
    env = gymnasium.make("mjxppo.gymnasium:mjxppo/Quadruped-v0", max_episode_steps=STEPS * len(COMMANDS))
    env = gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    obs, _ = env.reset(seed=0)
    rows = []
    for command in COMMANDS:
        env.unwrapped.fixed_command = np.array(command, float)
        seen = []
        for _ in range(STEPS):
            obs, _, terminated, _, _ = env.step(policy(obs))
            if terminated:
                sys.exit(f"the robot fell under the command {command}")
            seen.append([obs[3], obs[4], obs[8]])
        rows.append(np.mean(seen[SETTLING:], axis=0))
    env.close()
    return rows


if __name__ == "__main__":
    print("commanded: forward, left, turning     measured")
    for command, motion in zip(COMMANDS, motions(sys.argv[1]), strict=True):
        print("   ".join(f"{number:6.2f}" for number in command), "     ", "   ".join(f"{x:6.2f}" for x in motion))
