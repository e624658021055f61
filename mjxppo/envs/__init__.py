"""Tasks on top of physics: observation, reward, termination, random resets, time limit, auto-reset."""

from mjxppo.envs.base import Environment, EnvState
from mjxppo.envs.registry import make

__all__ = ["EnvState", "Environment", "make"]
