"""Driving among other cars, with manoeuvres to choose from or with a steering wheel, by PPO and by REINFORCE.

    pip install highway-env
    PYTHONPATH=examples mjxppo train --env gymnasium:driving:Highway-v0 --config examples/driving_ppo.yaml
    PYTHONPATH=examples mjxppo train --env gymnasium:driving:Highway-v0 --config examples/driving_reinforce.yaml

The tasks, which Gymnasium finds because it imports this file for ``driving:``:

- ``Highway-v0``: highway-env's three lanes with 10 other cars. Five manoeuvres (lane left, keep, lane right, faster,
  slower), one a second; an episode is 30 seconds, or ends at a crash. A second's reward is 0 to 1, for speed and for
  the right lane, and 0 at a crash.
- ``HighwayContinuous-v0``: the same road, with acceleration and steering as two numbers.
- ``MetaDrive-v0``, ``MetaDriveDiscrete-v0``: MetaDrive's roads (259 numbers seen; two numbers to act by, or one of 25
  combinations), where metadrive-simulator is installed. It downloads its assets at its first start.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

HIGHWAY = {"lanes_count": 3, "vehicles_count": 10, "duration": 30, "offscreen_rendering": True}
CONTINUOUS = {"action": {"type": "ContinuousAction"}, "simulation_frequency": 15, "policy_frequency": 5}
METADRIVE = {"use_render": False, "log_level": 50, "num_scenarios": 100, "horizon": 1000}


def highway(render_mode: str | None = None, **config: Any) -> gymnasium.Env:
    """highway-env's fast highway; ``config`` changes its settings."""
    _package("highway_env", "highway-env")
    return gymnasium.make("highway-fast-v0", render_mode=render_mode, config=HIGHWAY | config).unwrapped


def metadrive(**config: Any) -> gymnasium.Env:
    """MetaDrive's environment; ``config`` changes its settings."""
    _package("metadrive", "metadrive-simulator")
    environment: gymnasium.Env = importlib.import_module("metadrive.envs").MetaDriveEnv(METADRIVE | config)
    return environment


def _package(name: str, distribution: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled(f"{name} is missing; pip install {distribution}") from error


# The time limits are those of the simulators; REINFORCE asks for them, because its episodes are whole.
for _id, _make, _steps, _options in (
    ("Highway-v0", highway, 30, {}),
    ("HighwayContinuous-v0", highway, 150, CONTINUOUS),
    ("MetaDrive-v0", metadrive, 1000, {}),
    ("MetaDriveDiscrete-v0", metadrive, 1000, {"discrete_action": True}),
):
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_make, max_episode_steps=_steps, kwargs=_options)
