"""``mjxppo config``: a task's full configuration as YAML."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mjxppo.commands.parsing import parse
from mjxppo.config.values import defaults_for, from_dict, to_yaml
from mjxppo.envs.registry import canonical_name


@dataclass(frozen=True)
class ConfigArguments:
    """Prints a task's configuration as YAML."""

    env: str
    """Task: hopper, half_cheetah, walker2d, brax:NAME, playground:NAME, or gymnasium:ID."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(ConfigArguments, arguments, "mjxppo config")
    sys.stdout.write(to_yaml(from_dict(defaults_for(canonical_name(parsed.env)))))
    return 0
