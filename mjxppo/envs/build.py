"""The environment that a configuration describes."""

from __future__ import annotations

from mjxppo.config.schema import Config
from mjxppo.envs import observed
from mjxppo.envs.environment import Environment
from mjxppo.envs.randomize import task as randomized
from mjxppo.envs.registry import make


def environment(config: Config, env: Environment | None = None) -> Environment:
    """What a configuration trains in: its task (or ``env`` instead), randomised, and as its networks observe it.

    Raises:
        UserError: the task or its options cannot be had, or not so.
    """
    if env is None:
        env = make(config.env, backend=config.physics.backend, **config.env_options)
    privileged = config.policy.privileged != "none" or config.distill.policy.privileged == "both"
    return observed.wrap(randomized.wrap(env, config.randomize), config.policy.history, privileged)
