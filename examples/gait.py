"""A controller that is no network: an open-loop gait for HalfCheetah, as a teacher of demonstrations.

    mjxppo record examples/gait.py:gait --env half_cheetah --episodes 64
    mjxppo clone demonstrations.npz

Each joint's control is a sine of the time, with an amplitude, a phase and an offset. The numbers were found by the
cross-entropy method on the return of 250 steps. The gait looks at no observation; it reaches a return of 3200, unless
the cheetah falls over at the start.
"""

import numpy as np

STEP_S = 0.05
"""Duration of an environment step."""
FREQUENCY = 17.66
"""rad/s."""
AMPLITUDE = np.array([0.72, 1.36, 0.2, 0.51, 0.67, 0.5])
PHASE = np.array([-8.92, -1.0, 2.17, 0.4, 1.29, -1.37])
OFFSET = np.array([-0.24, -0.23, -0.28, -0.03, -0.27, 0.06])


def gait(obs: np.ndarray, step: int) -> np.ndarray:
    """The action at this step of an episode, from 0, [6] in [-1, 1]."""
    return np.clip(AMPLITUDE * np.sin(FREQUENCY * STEP_S * step + PHASE) + OFFSET, -1, 1)
