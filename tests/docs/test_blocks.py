"""Every code block of the documentation works: Python and commands are run on small budgets, YAML is a configuration.

``pages.small_budgets`` says what is made smaller. Commands that are too long, or not this package's, are in ``NOT_RUN``
with the reason; their options are checked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import gymnasium
import pytest
from pages import (
    ROOT,
    Block,
    Reader,
    as_mjxppo,
    blocks,
    blocks_of,
    check_command,
    check_yaml,
    commands_of,
    same_classes,
    small_budgets,
)

BLOCKS = blocks()
MINUTES = "takes minutes or hours; its options are checked"
NOT_RUN = {
    r"mjxppo (benchmark|study)\b": MINUTES,
    r"make (study|kill|soak|test|check|gpu-program|start|docs)\b": MINUTES,
    r"make setup\b": "installs; the target and its options are checked",
    r"mjxppo doctor$": "says what this machine lacks, which is not the block's fault; tests/measure/test_doctor.py",
    r"mjxppo replay\b": "needs a run that has failed; tests/reliability/test_failure.py",
    r"mjxppo report .*--split": "measures the machine; tests/measure/test_benchmarks.py",
    r"mjxppo view\b": "a server that runs until it is interrupted; tests/view",
    r"MJXPPO_PROCESS_ID=": "two processes that wait for each other; tests/run/test_distributed.py",
}
"""Commands that are not run, and why not."""
OTHERS = {
    r"pip install (-U )?(\.|tensorboard$|stable-baselines3$|'mjxppo\[view\]'$)": "installs",
    r"tensorboard --logdir runs$": "a server of another package",
    r"export MJXPPO_\w+=": "sets variables of the shell",
    r"python examples/cloning\.py": "takes minutes; tests/docs/test_examples.py runs it smaller",
    r"python examples/quadruped\.py": "tests/docs/test_examples.py runs it",
    r"PYTHON=\S+ scripts/gpu_session\.sh$": "needs a GPU",
}
"""Commands that are not this package's."""
EXCERPTS = {"README.md": "mjxppo/envs/walker2d.py"}
"""Pages with a Python block that shows classes of a file, and the file."""
NEEDS = {"policy.onnx": "onnx", "import onnxruntime": "onnxruntime"}
"""Texts in a Python block or a command, and the optional package without which it is not run."""
SLOW = {
    "brax:ant": "Brax compiles for a minute",
    "async": "starts 16 processes",
    "--num-seeds": "compiles several members",
    "--algorithm reinforce": "one of three; tests/ppo/test_algorithms.py trains each",
    "--algorithm es": "whole episodes; tests/ppo/test_es.py",
    "--init.path": "fine-tunes; tests/run/test_finetune.py",
    "hopper_randomized": "compiles a program of its own; tests/envs/test_randomize.py",
    "class Guess(Task)": "trains 200 000 steps",
    "robots/dog.xml": "compiles for as long as the quadruped, which another block trains",
    "--env gridworld": "trains several tasks; tests/envs/test_small_tasks.py",
    "--dagger-rounds": "learns six times; tests/run/test_cloning.py",
    "distill": "trains a teacher and a student; tests/run/test_distill.py",
}
"""Texts in blocks that only run with the exhaustive cases; their options are checked always."""
GIVEN = dict.fromkeys(("mine.yaml", "fast.yaml"), "env: hopper\nppo: {gamma: 0.98}\n") | {
    "my_tasks.py": "import mjxppo\nmjxppo.register('my_env', lambda **options: mjxppo.envs.make('hopper', **options))\n"
}


def given() -> dict[str, str]:
    robot = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "hopper.xml"
    dog = ROOT / "mjxppo" / "envs" / "robots" / "quadruped.xml"
    return GIVEN | {"robots/mine.xml": robot.read_text(), "robots/dog.xml": dog.read_text()}


def missing(text: str) -> str | None:
    """The optional package that a block or a command needs and that is not installed."""
    needed = (package for part, package in NEEDS.items() if part in text)
    return next((package for package in needed if importlib.util.find_spec(package) is None), None)


def reason_not_to_run(command: str) -> str | None:
    return next((reason for pattern, reason in (NOT_RUN | OTHERS).items() if re.match(pattern, command)), None)


def runnable() -> list:
    marked = []
    for block in BLOCKS:
        commands = [shlex.join(words) for words in commands_of(block.text)] if block.language == "sh" else []
        starts = any(reason_not_to_run(command) is None for command in commands)
        if starts or (block.language == "python" and block.text not in excerpts()):
            waits = any(text in block.text for text in SLOW)
            marked.append(pytest.param(block, id=str(block), marks=[pytest.mark.exhaustive] if waits else []))
    return marked


def excerpts() -> list[str]:
    return [b.text for b in BLOCKS if b.page in EXCERPTS and b.language == "python" and b.text.startswith("@dataclass")]


def of_language(name: str) -> list:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == name]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A directory with one trained run, its newest, which pages take to be there."""
    directory = tmp_path_factory.mktemp("start")
    before = Path.cwd()
    os.chdir(directory)
    try:
        with small_budgets():
            reader = Reader(directory, blocks_of("", "```sh\nmjxppo train --env hopper --eval.no-video\n```"), {})
            reader.run(reader.page[0], {})
    finally:
        os.chdir(before)
    for name in ("configs", "docs", "examples", "scripts"):
        (directory / name).unlink()
    return directory


@pytest.fixture(scope="module")
def readers():
    return {}


def reader_of(block: Block, readers, start, tmp_path_factory) -> Reader:
    if block.page not in readers:
        directory = tmp_path_factory.mktemp("page") / "checkout"
        shutil.copytree(start, directory, symlinks=True)
        page = [one for one in BLOCKS if one.page == block.page and one.text not in excerpts()]
        if block.page == "docs/running.md":  # compares and watches runs that the reader has
            (own,) = (path for path in (directory / "runs").iterdir() if path.is_dir() and not path.is_symlink())
            for name in ("a", "b", "mine"):
                shutil.copytree(own, directory / "runs" / name, symlinks=True)
        readers[block.page] = Reader(directory, page, given())
    return readers[block.page]


def not_run(block: Block) -> list[str]:
    """The commands of a block, and of those before it, that are not run: listed ones, and slow ones of other blocks."""
    left_out = []
    for one in BLOCKS:
        for words in commands_of(one.text) if one.page == block.page and one.language == "sh" else ():
            command = shlex.join(words)
            slow = one != block and any(text in command for text in SLOW)
            if slow or reason_not_to_run(command) or missing(command):
                left_out.append(command)
    return left_out


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("block", runnable())
def test_it_runs(block, readers, start, tmp_path_factory, monkeypatch):
    if block.language == "python" and (package := missing(block.text)):
        pytest.skip(f"needs {package}")
    reader = reader_of(block, readers, start, tmp_path_factory)
    monkeypatch.chdir(reader.directory)
    monkeypatch.setenv("HOME", str(reader.directory))
    with small_budgets():
        reader.run(block, not_run(block))


@pytest.mark.parametrize("block", of_language("sh"))
def test_its_commands_exist_and_take_these_options(block, monkeypatch, tmp_path):
    for name, text in given().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "finetune.yaml").write_text("total_env_steps: 1000\n")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    commands = commands_of(block.text)
    assert commands
    for words in commands:
        words = [word for word in words if word != "&"]
        if re.match(r"MJXPPO_\w+=", words[0]):
            words = words[1:]
        started = as_mjxppo(words)
        if started is None:
            assert any(re.match(pattern, shlex.join(words)) for pattern in OTHERS), f"{block}: what is {words}?"
            check_other(words)
        for arguments in started or ():
            check_command(arguments[: arguments.index(">")] if ">" in arguments else arguments)


def check_other(words: list[str]) -> None:
    """Checks what can be checked of a command of another program: its files, and the extras of this package."""
    for word in words:
        if word.endswith(".sh"):
            subprocess.run(["bash", "-n", ROOT / word], check=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert name in extras


@pytest.mark.parametrize("block", of_language("yaml"))
def test_it_is_a_configuration(block, tmp_path):
    check_yaml(block, tmp_path)


def test_every_block_says_what_it_is_and_text_hides_no_command():
    assert {block.language for block in BLOCKS} == {"python", "sh", "yaml", "text"}
    for block in BLOCKS:
        if block.language == "text":
            lines = block.text.splitlines()
            assert not [line for line in lines if re.match(r"\$|(mjxppo|make|pip|python|import|from) \S", line)], block


@pytest.mark.parametrize("page", EXCERPTS)
def test_an_excerpt_is_what_its_file_says(page):
    (block,) = (block for block in BLOCKS if block.page == page and block.text in excerpts())
    assert same_classes(block, ROOT / EXCERPTS[page])


def test_every_exception_is_one_that_the_documentation_needs():
    commands = [shlex.join(words) for block in BLOCKS if block.language == "sh" for words in commands_of(block.text)]
    for pattern in NOT_RUN | OTHERS:
        assert any(re.match(pattern, command) for command in commands), pattern
    for text in [*SLOW, *NEEDS]:
        assert any(text in block.text for block in BLOCKS), text


class TestABrokenBlock:
    """The checks above find what is wrong."""

    def reader(self, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return Reader(tmp_path, blocks_of("docs/x.md", text), {})

    def test_of_python_fails_with_the_pages_line(self, tmp_path, monkeypatch):
        reader = self.reader("Text\n```python\na = 1\n```\n\n```python\nb = a\nc = d\n```\n", tmp_path, monkeypatch)
        with pytest.raises(NameError, match="'d'") as error:
            reader.run(reader.page[1], {})
        assert error.traceback[-1].lineno + 1 == 8

    @pytest.mark.parametrize(
        "command",
        ["mjxppo trian", "mjxppo train --env hopper --ppo.gama 1", "mjxppo study", "make train ENV=hopper ARGS=-x"],
    )
    def test_of_commands_is_refused(self, command):
        with pytest.raises(AssertionError, match="exit code 2"):
            for arguments in as_mjxppo(shlex.split(command)):
                check_command(arguments)

    def test_of_a_target_that_is_none_is_refused(self):
        with pytest.raises(AssertionError, match="No rule to make target"):
            as_mjxppo(["make", "trian"])
