"""Tasks on top of physics: observation, reward, termination, random resets, time limit, auto-reset."""

from mjxppo.envs.environment import Environment, EnvState
from mjxppo.envs.registry import as_brax, make

__all__ = ["EnvState", "Environment", "as_brax", "make"]
