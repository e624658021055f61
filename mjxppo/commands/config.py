"""``mjxppo config``: a task's full configuration as YAML."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mjxppo import config_io
from mjxppo.commands.parsing import parse


@dataclass(frozen=True)
class ConfigArguments:
    """Which task."""

    env: str
    """Task: hopper, half_cheetah, walker2d, brax:NAME, playground:NAME, or gymnasium:ID."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(
        ConfigArguments, arguments, prog="mjxppo config", description="Prints a task's configuration as YAML."
    )
    from mjxppo.envs.registry import canonical_name

    sys.stdout.write(config_io.to_yaml(config_io.from_dict(config_io.defaults_for(canonical_name(parsed.env)))))
    return 0
