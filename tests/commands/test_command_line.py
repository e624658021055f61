"""The command line itself: help that fits a screen, completion, layered files, and errors that help."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mjxppo import cli
from mjxppo.commands import helptext
from mjxppo.commands import train as train_command
from mjxppo.commands.benchmark import KINDS as BENCHMARKS
from mjxppo.config.schema import Config, sections
from mjxppo.config.values import defaults_for, from_dict, to_dict
from mjxppo.run.session import configuration_of

LINES, COLUMNS = 50, 100
GROUPS = list(sections())
PAGES = [
    [],
    *([name] for name in cli.COMMANDS),
    *(["benchmark", kind] for kind in BENCHMARKS),
    *(["train", "--env", "hopper", "--help", group] for group in GROUPS),
]


def run_cli(*arguments):
    """Exit code of a command, which may leave by SystemExit."""
    try:
        return cli.main(list(arguments))
    except SystemExit as end:
        return end.code or 0


class TestHelp:
    @pytest.mark.parametrize("page", PAGES, ids=" ".join)
    def test_fits_a_screen(self, page, capsys):
        assert run_cli(*page, *([] if "--help" in page else ["--help"])) == 0
        lines = capsys.readouterr().out.splitlines()
        assert 3 <= len(lines) <= LINES
        assert max(len(line) for line in lines) <= COLUMNS

    def test_explains_every_field_with_its_default_and_range(self, capsys):
        assert run_cli("train", "--env", "hopper", "--help", "all") == 0
        text = " ".join(capsys.readouterr().out.split())
        config = from_dict(defaults_for("hopper"))
        for field in dataclasses.fields(config):
            section = getattr(config, field.name)
            names = [f.name for f in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else [None]
            for name in names:
                flag = field.name if name is None else f"{field.name}.{name}"
                option, negated = (flag.replace("_", "-"), flag.replace(".", ".[no-]").replace("_", "-"))
                shown = (f"--{option} ", f"--{negated} ", f"--{option}.* ", f"--{option}.NAME ")
                assert any(form in text for form in shown), flag
        assert "--ppo.gamma FLOAT" in text and "(default 0.995, 0 to 1)" in text, "hopper's own default"
        assert "--ppo.clip-eps FLOAT Half-width of the ratio's clip range. (default 0.2, > 0)" in text
        assert "One of none, minibatch, batch." in text
        assert "--randomize.mass.* " in text and "distribution, low, high, operation, each" in text

    def test_has_no_field_without_an_explanation(self):
        everything = train_command.train_options()
        for section in ["", *sections()]:
            for flag, text, _ in helptext.rows_of(everything, section):
                assert text.strip(), flag

    def test_of_a_page_that_is_not_there_names_the_nearest(self, capsys):
        assert run_cli("train", "--help", "pppo") == 2
        assert "did you mean ppo?" in capsys.readouterr().err

    def test_does_not_wait_for_jax_or_mujoco(self):
        code = "import sys; from mjxppo import cli\ntry:\n  cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        code += "print([m for m in ('jax', 'mujoco', 'gymnasium', 'matplotlib', 'orbax', 'numpy') if m in sys.modules])"
        for arguments in (["--help"], ["train", "--help"], ["render", "--help"], ["doctor", "--help"]):
            done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
            assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "[]", ""), arguments

    def test_a_configuration_is_checked_without_jax(self):
        code = "import sys; from mjxppo.config.check import make_config; make_config({'env': 'hopper'})\n"
        code += "print([m for m in ('jax', 'mujoco', 'numpy') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "words, expected",
    [
        (["tr"], ["train"]),
        (["train", "--ppo.ga"], ["--ppo.gamma", "--ppo.gae-lambda"]),
        (["train", "--policy.activation", "s"], ["silu"]),
        (["train", "--env", "ho"], ["hopper"]),
        (["train", "--config", "half_cheetah_5"], ["half_cheetah_50m"]),
        (["study", "adv"], ["advantage_normalization"]),
        (["benchmark", "phy"], ["physics"]),
        (["benchmark", "physics", "--num-e"], ["--num-envs"]),
        (["watch", "--on"], ["--once"]),
    ],
    ids=" ".join,
)
def test_completes(words, expected):
    """As a shell asks: the line in the environment, the answer on file descriptor 8 (or in a file)."""
    line = f"mjxppo {' '.join(words)}"
    with tempfile.NamedTemporaryFile("r") as answer:
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": answer.name,
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        done = subprocess.run([sys.executable, "-m", "mjxppo"], env=environment, capture_output=True, text=True)
        found = [word.strip() for word in re.split(r"[\v\n]", answer.read()) if word.strip()]
    assert (sorted(found), done.stderr) == (sorted(expected), "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_the_program(shell, capsys):
    assert run_cli("completion", shell) == 0
    text = capsys.readouterr().out
    assert "_ARGCOMPLETE" in text and "mjxppo" in text


class TestLayers:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("base.yaml").write_text("env: hopper\nppo: {gamma: 0.9, clip_eps: 0.1}\n")
        Path("fast.yaml").write_text("ppo: {gamma: 0.8, learning_rate: 1e-2}\n")
        Path("long.yaml").write_text("total_env_steps: 5_000_000\nppo: {gamma: 0.7}\n")

    def config(self, *arguments) -> Config:
        request = train_command.request_of(arguments, "mjxppo train")
        return configuration_of(request.changes)[0]

    def test_files_stack_in_their_order_and_options_win(self):
        files = ["--config", "base.yaml", "--set-from", "fast.yaml", "--set-from=long.yaml"]
        config = self.config(*files)
        assert (config.env, config.total_env_steps) == ("hopper", 5_000_000)
        assert (config.ppo.gamma, config.ppo.clip_eps, config.ppo.learning_rate) == (0.7, 0.1, 0.01)
        assert config.ppo.rollout_length == 64, "what no file names is as shipped for the task"
        assert self.config(*files, "--ppo.gamma", "0.5").ppo.gamma == 0.5
        other_way = ["--config", "base.yaml", "--set-from", "long.yaml", "--set_from", "fast.yaml"]
        assert self.config(*other_way).ppo.gamma == 0.8

    def test_whole_numbers_may_be_written_as_people_write_them(self):
        config = self.config("--env", "hopper", "--total-env-steps", "2e6", "--ppo.num-envs", "2_048")
        assert (config.total_env_steps, config.ppo.num_envs) == (2_000_000, 2048)

    def test_options_of_the_task_are_options_too(self):
        config = self.config(
            "--env", "hopper", "--env-options.ctrl-cost-weight", "1e-2", "--env-options.healthy_z_range=[0.5, 2]"
        )
        assert config.env_options == {"ctrl_cost_weight": 0.01, "healthy_z_range": [0.5, 2]}

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["--env", "hopper", "--set-from", "missing.yaml"], "there is no file missing.yaml"),
            (["--env", "hopper", "--set-from"], "--set-from"),
            (
                ["--env", "hopper", "--total-env-steps", "1.5"],
                "valid integer, got a number with a fractional part, not 1.5",
            ),
            (
                ["--env", "hopper", "--total-env-steps", "inf"],
                "valid integer, unable to parse string as an integer, not 'inf'",
            ),
            (["--env", "hopper", "--env-options.ctrl-cost-weihgt", "3"], "did you mean ctrl_cost_weight?"),
            (["--env", "hopper", "--env-options.ctrl-cost-weight"], "takes a value"),
            (["--env", "hopper", "--env-options.x", "[1"], "cannot be read"),
            (["--env", "hopper", "--randomize.push", "2"], "randomize.push: input should be less than or equal to 1"),
            (["--env", "hopper", "--grid", "ppo.gamma=0.9", "--grid=ppo.gamma=1"], "given twice"),
            (["--env", "hopper", "--grid", "ppo.gamma"], "takes NAME=VALUE"),
            (["--env", "hopper", "--policy.activation", "sillu"], "did you mean silu?"),
            (["--env", "hopper", "--learning-rate", "3"], "did you mean --ppo.learning-rate"),
            (["--env", "hopper", "--no-log.tensorboard"], "did you mean --log.no-tensorboard"),
            (
                ["--env", "hopper", "--eval.video", "false"],
                "'false': mjxppo train takes no such argument (a",
            ),
            (["--env", "hopper", "--policy.hidden-sizes"], "--policy.hidden-sizes: expected at least one argument"),
        ],
        ids=lambda value: value[-1] if isinstance(value, list) else "",
    )
    def test_mistakes_are_one_line_with_the_nearest(self, arguments, message, capsys):
        assert run_cli("train", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1

    def test_what_a_file_can_say_is_an_option_too(self):
        config = self.config(
            "--env", "hopper", "--randomize.mass.low", "0.7", "--randomize.mass.distribution", "uniform"
        )
        assert (config.randomize.mass.low, config.randomize.mass.distribution) == (0.7, "uniform")
        config = self.config("--env", "hopper", "--policy.init-log-std", "-0.5", "--policy.hidden-sizes", "32", "16")
        assert (config.policy.init_log_std, config.policy.hidden_sizes) == (-0.5, (32, 16))
        assert not self.config("--env", "hopper", "--eval.no-video").eval.video
        assert self.config("--env", "hopper", "--grid", "ppo.gamma=0.9,0.99").grid == {"ppo.gamma": (0.9, 0.99)}


def test_other_mistakes_name_the_nearest_too(capsys):
    for arguments, message in (
        (["benchmark", "phisics"], "did you mean physics?"),
        (["evaluate", ".", "--engine", "gymnasum"], "did you mean gymnasium?"),
        (["render", ".", "--widht", "3"], "did you mean --width"),
        (["plto"], "did you mean plot?"),
    ):
        assert run_cli(*arguments) == 2
        assert message in capsys.readouterr().err


def test_what_config_prints_can_be_fed_back(tmp_path, capsys):
    assert run_cli("config", "--env", "hopper") == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    request = train_command.request_of(["--config", str(tmp_path / "mine.yaml"), "--seed", "3"], "mjxppo train")
    expected = to_dict(from_dict(defaults_for("hopper"))) | {"seed": 3}
    assert json.dumps(to_dict(configuration_of(request.changes)[0])) == json.dumps(expected)


def test_the_package_is_a_program_too():
    done = subprocess.run([sys.executable, "-m", "mjxppo", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "mjxppo")
