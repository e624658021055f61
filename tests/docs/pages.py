"""The code blocks of the documentation, and a reader who runs those of a page from the top."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import yaml

from mjxppo import cli
from mjxppo.analysis.study import read_study
from mjxppo.config.check import make_config
from mjxppo.config.values import from_dict, parse_value, to_dict
from mjxppo.physics.planar import PlanarPhysics
from mjxppo.run import cloning, session

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line of code."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """The blocks of README, CONTRIBUTING and docs/, page by page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [block for page in pages for block in blocks_of(str(page.relative_to(ROOT)), page.read_text())]


def blocks_of(page: str, text: str) -> list[Block]:
    fence = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [
        Block(page, text[: found.start(3)].count("\n") + 1, found[2].split(" ")[0], found[3])
        for found in fence.finditer(text)
    ]


def commands_of(text: str) -> list[list[str]]:
    """The words of each command of a shell block, without comments; ``a && b`` are two, ``source <(a)`` is ``a``."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"source <\((.*?)\)", r"\1", line)
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            found += [words] if words else []
    return found


def shrunk(config):
    """The configuration with the budget of a test: the one place where the blocks run something smaller than they say.

    Two updates of 16 worlds, episodes of 20 steps, small networks, two episodes to evaluate.
    """
    ppo = {
        "num_envs": 16,
        "block_size": 16,
        "rollout_length": 20,  # so that episodes end
        "num_minibatches": 2 if config.algorithm == "ppo" else 1,
        "num_epochs": 1,
    }
    values = to_dict(config)
    return make_config(
        values
        | {
            "ppo": values["ppo"] | ppo,
            "total_env_steps": 2 * 16 * ppo["rollout_length"],
            "eval": values["eval"]
            | {
                "episodes": min(2, values["eval"]["episodes"]),
                "every_env_steps": min(320, values["eval"]["every_env_steps"]),
            },
            "env_options": {**values["env_options"], "max_episode_steps": 20},
        }
    )


@contextlib.contextmanager
def small_budgets():
    """Every training within is ``shrunk``, evaluations have two episodes, and robots move freely.

    The compilation of the planar physics would take most of the time, and has tests of its own.
    """
    from mjxppo.policy import evaluate  # brings Gymnasium in

    configuration_of, episodes = session.configuration_of, evaluate.gymnasium_episodes

    def small(changes, env=None, resumed=None):
        config, source = configuration_of(changes, env, resumed)
        made_already = env is not None and env.name not in ("hopper", "half_cheetah", "walker2d")
        small = shrunk(config)
        return (replace(small, env_options=config.env_options) if made_already else small), source

    free = lambda self, state, ctrl: replace(state, qpos=state.qpos + 0.01 * state.qvel)  # noqa: E731
    few = lambda policy, config, num, seed, changes: episodes(policy, config, min(num, 2), seed, changes)  # noqa: E731
    with (
        mock.patch.object(session, "configuration_of", small),
        mock.patch.object(PlanarPhysics, "_step", free),
        mock.patch.object(evaluate, "gymnasium_episodes", few),
        mock.patch.object(evaluate.xla, "usable_cores", lambda: 1),  # in this process
    ):
        yield


class Accepted(Exception):
    """A command has read its options; raised instead of doing anything."""


def check_command(words: list[str]) -> None:
    """Checks that a command exists and takes its options, without running it; raises what is wrong with it."""
    with contextlib.ExitStack() as patches:

        def stop(parse):
            def parsed(*arguments, **_):
                parse(*arguments)
                raise Accepted

            return parsed

        for name in cli.COMMANDS:
            module = importlib.import_module(f"mjxppo.commands.{name}")
            if hasattr(module, "parse"):
                patches.enter_context(mock.patch.object(module, "parse", stop(module.parse)))
        patches.enter_context(mock.patch.object(session, "run", stop(_check_run)))
        patches.enter_context(mock.patch.object(cloning, "read_data", stop(lambda path: None)))
        patches.enter_context(mock.patch.dict(os.environ))
        patches.enter_context(contextlib.redirect_stderr(said := io.StringIO()))
        try:
            code = cli.main(words)
        except Accepted:
            return
    raise AssertionError(f"mjxppo {shlex.join(words)}: exit code {code}: {said.getvalue()}")


def _check_run(request, *_) -> None:
    """Checks the fields of a run; those that other runs, which are not there, would add are left out."""
    fields = {name: value for name, value in request.changes.items() if name not in ("init", "distill")}
    session.configuration_of({"env": "hopper"} | fields)


def as_mjxppo(words: list[str]) -> list[list[str]] | None:
    """The arguments of ``mjxppo`` that a command starts, by a script or make too; None where it is another's."""
    program, *rest = words
    if program == "mjxppo":
        return [rest]
    if program == "python" and re.fullmatch(r"scripts/\w+\.py", rest[0]):
        (command,) = re.findall(r'run\("(\w+)"\)', (ROOT / rest[0]).read_text())
        return [[command, *rest[1:]]]
    if program == "make":
        planned = subprocess.run(
            ["make", "-n", *rest],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "MAKEFLAGS": ""},
        )
        assert planned.returncode == 0, planned.stderr
        return [shlex.split(line)[1:] for line in planned.stdout.splitlines() if line.startswith(".venv/bin/mjxppo ")]
    return None


class Reader:
    """Runs the blocks of a page from the top, in a directory of its own that looks like the repository."""

    def __init__(self, directory: Path, page: list[Block], given: dict[str, str]):
        """``directory`` holds an earlier run; ``given`` are files that the page takes to be there."""
        self.directory, self.page = directory, page
        self.names: dict[str, object] = {}
        self.results: list[BaseException | None] = []
        for name in ("configs", "docs", "examples", "scripts"):
            (directory / name).symlink_to(ROOT / name)
        for name, text in given.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
        for block in page:  # a file may be shown after the command that reads it
            if named := re.match(r"# (\w+\.yaml)\n", block.text):
                (directory / named[1]).write_text(block.text)

    def run(self, block: Block, left_out) -> None:
        """Runs the page's blocks up to this one, commands but those in ``left_out``; raises what went wrong in it."""
        for one in self.page[len(self.results) : self.page.index(block) + 1]:
            try:
                if one.language == "python":
                    self._run_python(one)
                for words in commands_of(one.text) if one.language == "sh" else ():
                    for started in (as_mjxppo(words) or []) if shlex.join(words) not in left_out else ():
                        self._start(started)
            except BaseException as error:
                error.add_note(f"in the block at {one}")
                self.results.append(error)
            else:
                self.results.append(None)
        if error := self.results[self.page.index(block)]:
            raise error

    def _run_python(self, block: Block) -> None:
        # Line numbers of a traceback are then those of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(ROOT / block.page), "exec")
        exec(code, self.names)

    def _start(self, words: list[str]) -> None:
        """Runs one command of mjxppo's; its output goes where ``> file`` says."""
        target = None
        if ">" in words:
            target = self.directory / Path(words[words.index(">") + 1]).expanduser().name
            words = words[: words.index(">")]
        with contextlib.redirect_stdout(out := io.StringIO()), contextlib.redirect_stderr(said := io.StringIO()):
            try:
                with mock.patch.dict(os.environ):  # --tasks is kept there
                    code = cli.main(words)
            except SystemExit as end:
                code = end.code or 0
        assert code == 0, f"mjxppo {shlex.join(words)}: exit code {code}: {said.getvalue()[-2000:]}"
        if target is not None:
            target.write_text(out.getvalue())


def same_classes(block: Block, source: Path) -> bool:
    """Whether the classes of a block are those of a file, without docstrings and comments."""

    def classes(text):
        found = {}
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:]
                found[node.name] = ast.dump(node)
        return found

    ours, theirs = classes(block.text), classes(source.read_text())
    return bool(ours) and all(theirs.get(name) == dumped for name, dumped in ours.items())


def check_yaml(block: Block, directory: Path) -> None:
    """Checks that a block is a configuration, or a section of a study; raises UserError where it is not."""
    values = parse_value(block.text)
    if "perturb" in values:
        study = parse_value((ROOT / "configs" / "studies" / "robustness.yaml").read_text())
        (directory / "study.yaml").write_text(yaml.safe_dump(study | values))
        read_study(directory / "study.yaml").perturb.axes()
    else:  # what ``init`` starts from is named by the command that reads the file
        from_dict({"env": "hopper"} | values)
