"""The command line: finds a command by its name, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from mjxppo import __version__, xla
from mjxppo.errors import UserError, hint

Command = Callable[[list[str]], int]

COMMANDS = {
    "train": "train a policy; checks it in Gymnasium and films it at the end",
    "sweep": "train every combination of some settings, side by side in one program",
    "distill": "train a student that imitates a teacher, such as one with privileged observations",
    "record": "record demonstrations of a policy or of any other controller",
    "clone": "learn a policy from demonstrations (behaviour cloning)",
    "study": "compare variants of the settings with several seeds each: curves and a table",
    "evaluate": "returns of a trained policy, as JSON",
    "render": "film a trained policy: mp4, gif, or a page that plays it",
    "view": "see a policy act in the browser, push it, change its robot",
    "export": "write a trained policy for other programs: npz, onnx, stablehlo",
    "watch": "follow a run in the terminal",
    "report": "write one self-contained web page about a run",
    "plot": "draw the learning curves of one or more runs",
    "config": "print a task's full configuration as YAML, to edit and use with train --config",
    "replay": "compute again the update in which a run became non-finite, from its dump",
    "benchmark": "measure physics and training speed",
    "doctor": "check the installation on this machine; remedies for what is missing",
    "completion": "a script that makes your shell complete commands and options",
}


def _usage() -> str:
    lines = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    help_text = "mjxppo COMMAND --help lists a command's options. --tasks names tasks of your own."
    return f"usage: mjxppo [--tasks FILE_OR_MODULE] COMMAND [OPTIONS]\n\ncommands:\n{lines}\n\n{help_text}"


def _command(name: str) -> Command:
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; {hint(name, COMMANDS)}")
    return importlib.import_module(f"mjxppo.commands.{name}").main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 where training failed, 2 for bad input, 128 + a signal."""
    # With MUJOCO_GL set to a backend that is not installed, importing mujoco fails. Only rendering needs the variable.
    if "MUJOCO_GL" in os.environ:
        os.environ["MJXPPO_GL"] = os.environ.pop("MUJOCO_GL")
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        from mjxppo.commands.completion import complete  # imports every command

        complete(COMMANDS)
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"mjxppo: {_one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _forget_output()
        return 141
    except Exception as error:
        # Any part of JAX or of a library that uses it may be the first to import it, or to start it.
        problem = xla.refused_setting(error) or xla.platform_problem()
        if problem is None:
            raise
        print(f"mjxppo: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mjxppo: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"mjxppo {__version__}")
        return 0
    if arguments[0] == "--tasks":
        if len(arguments) < 3:
            raise UserError(
                "--tasks: takes a module or a .py file, and a command: mjxppo --tasks my_tasks.py train ..."
            )
        from mjxppo.commands.tasks import add_tasks  # the usage does without

        add_tasks(arguments[1])
        return _run(arguments[2:])
    return _command(arguments[0])(arguments[1:])


def _forget_output() -> None:
    """Redirects standard output to the null device, because Python would write to the closed pipe again at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
