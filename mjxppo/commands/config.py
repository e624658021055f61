"""``mjxppo config``: a task's full configuration as YAML."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mjxppo.commands.parsing import parse
from mjxppo.config.layers import resolve
from mjxppo.config.schema import AlgorithmName
from mjxppo.config.values import to_yaml
from mjxppo.envs.registry import canonical_name


@dataclass(frozen=True)
class ConfigArguments:
    """Prints a task's configuration as YAML."""

    env: str
    """Task: hopper, half_cheetah, walker2d, brax:NAME, playground:NAME, or gymnasium:ID."""
    algorithm: AlgorithmName = "ppo"
    """The algorithm: ppo, a2c, vpg, reinforce, trpo, shac, or es (evolution strategies)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ConfigArguments, arguments, "mjxppo config")
    sys.stdout.write(to_yaml(resolve(canonical_name(parsed.env), {"algorithm": parsed.algorithm})))
    return 0
