"""``mjxppo completion``: a script that makes a shell complete commands, options and their values."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import argcomplete

from mjxppo.commands.clone import clone_options
from mjxppo.commands.options import POSITIONAL, Option, add_arguments, options_of
from mjxppo.commands.parsing import parse
from mjxppo.commands.train import train_options
from mjxppo.config.values import configs_dir, read_yaml
from mjxppo.envs.registry import registered


@dataclass(frozen=True)
class CompletionArguments:
    """Prints a completion script. For bash, add to ~/.bashrc:  source <(mjxppo completion bash)
    For zsh, add to ~/.zshrc after compinit:  source <(mjxppo completion zsh)
    For fish:  mjxppo completion fish > ~/.config/fish/completions/mjxppo.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], POSITIONAL]
    """bash, zsh, or fish."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(CompletionArguments, arguments, "mjxppo completion")
    print(argcomplete.shellcode(["mjxppo"], True, parsed.shell))
    return 0


def complete(commands: Mapping[str, str]) -> None:
    """Prints the possible completions for the shell's script, which starts ``mjxppo`` for this, and exits."""
    argcomplete.autocomplete(_parser_of_all(commands), always_complete_options="long")


def _parser_of_all(commands: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mjxppo")
    parser.add_argument("--tasks")
    places = parser.add_subparsers()
    for name, text in commands.items():
        module = importlib.import_module(f"mjxppo.commands.{name}")
        command = places.add_parser(name, help=text)
        kinds = getattr(module, "KINDS", None)
        if kinds is None:
            add_arguments(command, _options_of(name, module), _completer_of)
            continue
        kind_places = command.add_subparsers()  # a command with kinds, each with arguments of its own
        for kind, (cls, _) in kinds.items():
            add_arguments(kind_places.add_parser(kind, help=cls.__doc__), options_of(cls), _completer_of)
    return parser


def _options_of(name: str, module: Any) -> list[Option]:
    if name in ("train", "sweep", "distill"):
        return train_options()
    if name == "clone":
        return clone_options()
    return options_of(getattr(module, f"{name.title()}Arguments"))


def _completer_of(option: Option) -> Callable[..., list[str]] | None:
    """The values that an option can have; None: files."""
    kind = get_args(option.kind)[0] if get_origin(option.kind) is tuple else option.kind
    if get_origin(kind) is Literal:
        return lambda **_: list(get_args(kind))
    shipped = sorted(configs_dir().glob("*.yaml"))
    if option.name in ("env", "tasks"):
        names = {str(read_yaml(path)["env"]) for path in shipped if ":" not in path.stem}
        return lambda **_: sorted({*names, *registered()})
    if option.name in ("config", "set_from"):
        files = argcomplete.completers.FilesCompleter()
        return lambda **given: [*(path.stem for path in shipped), *files(**given)]
    if option.name == "name":  # of a study
        return lambda **_: sorted(path.stem for path in (configs_dir() / "studies").glob("*.yaml"))
    return None
