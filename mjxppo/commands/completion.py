"""``mjxppo completion``: a script that makes a shell complete commands, options and their choices."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional

from mjxppo.commands.parsing import parse


@dataclass(frozen=True)
class CompletionArguments:
    """For which shell."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """bash, zsh, or fish."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    parsed = parse(
        CompletionArguments,
        arguments,
        prog="mjxppo completion",
        description="Prints a completion script. For bash, add to ~/.bashrc:  source <(mjxppo completion bash)\n"
        "For zsh, add to ~/.zshrc after compinit:  source <(mjxppo completion zsh)\n"
        "For fish:  mjxppo completion fish > ~/.config/fish/completions/mjxppo.fish",
    )
    print(script(parsed.shell))
    return 0


def script(shell: str) -> str:
    """The completion script that tyro makes of all commands' arguments."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(_all_commands(), prog="mjxppo", args=["--tyro-print-completion", shell])
    # Where no option fits, bash is to complete file names.
    return text.getvalue().replace("complete -F", "complete -o bashdefault -o default -F")


def _all_commands() -> Any:
    """One type for the whole command line: a union of the commands' dataclasses."""
    from mjxppo.cli import COMMANDS

    return Union[tuple(_command(name, text) for name, text in COMMANDS.items())]  # noqa: UP007


def _command(name: str, text: str) -> Any:
    module = importlib.import_module(f"mjxppo.commands.{name}")
    kinds = getattr(module, "ARGUMENTS", None)
    if kinds is not None:  # a command with kinds, each with arguments of its own
        members = tuple(_subcommand(kind, kind_text, cls) for kind, (cls, kind_text) in kinds.items())
        union: Any = Union[members]  # noqa: UP007
        unprefixed = Annotated[union, tyro.conf.arg(name="")]
        cls = dataclasses.make_dataclass(f"{name.title()}Arguments", [("kind", unprefixed)])
    else:
        cls = getattr(module, f"{name.title()}Arguments")
    return _subcommand(name, text, cls)


def _subcommand(name: str, text: str, cls: type) -> Any:
    return Annotated[cls, tyro.conf.subcommand(name, description=text, prefix_name=False)]
