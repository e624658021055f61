"""``mjxppo clone``: a policy that imitates recorded demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from mjxppo.commands import helptext
from mjxppo.commands.options import POSITIONAL, Option, options_of, read
from mjxppo.config.cloning import CloningConfig
from mjxppo.config.layers import changes_of
from mjxppo.config.schema import Config, sections
from mjxppo.config.values import build
from mjxppo.console import print_json, say

PROG = "mjxppo clone"
_FIELDS = ("env", "env_options", "seed")
_SECTIONS = ("physics", "policy", "ppo", "eval")
"""Fields and sections of a configuration that are options here; --config may set others, which a run goes on with."""
_ABOUT = "Learns a policy from demonstrations; mjxppo train --init.path goes on from it."


@dataclass(frozen=True)
class CloneArguments(CloningConfig):
    """What ``mjxppo clone`` takes besides the fields of a configuration."""

    data: Annotated[Path, POSITIONAL] = field(kw_only=True)
    """A .npz of mjxppo record, or a folder of Minari's."""
    config: str | None = None
    """YAML file or name of a shipped configuration, for its task, networks, and evaluation."""
    run_dir: Path | None = None
    """Directory of the run; default: runs/TASK-DATE-TIME-sSEED."""


def clone_options() -> list[Option]:
    """The options: the command's own, and those fields of a configuration that cloning uses."""
    fields = options_of(Config, Config(env="that of the data"))
    used = [option for option in fields if option.name in _FIELDS or option.section in _SECTIONS]
    return [*used, *options_of(CloneArguments)]


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    options = clone_options()
    about = {name: text for name, text in sections().items() if name in _SECTIONS}
    helptext.show_if_asked(options, arguments, prog=PROG, description=_ABOUT, sections=about)
    values = read(options, arguments, PROG)
    names = [field.name for field in fields(CloneArguments)]
    own = build(CloneArguments, {name: values.pop(name) for name in names if name in values}, PROG)
    from mjxppo.envs.build import prepare
    from mjxppo.run import cloning

    changes = changes_of([own.config] if own.config is not None else [], values)
    prepare(changes)
    data = cloning.read_data(own.data)
    settings = CloningConfig(**{field.name: getattr(own, field.name) for field in fields(CloningConfig)})
    result = cloning.clone(data, changes, settings, own.run_dir)
    say(f"everything is in {result.run_dir}")
    print_json(result.summary)
    return 0
