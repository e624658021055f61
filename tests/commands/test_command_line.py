"""The command line itself: help that fits a screen, completion, layered files, and errors that help."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mjxppo import cli
from mjxppo.commands import completion, helptext, layers
from mjxppo.commands import train as train_command
from mjxppo.commands.benchmark import ARGUMENTS as BENCHMARKS
from mjxppo.commands.train import TrainArguments
from mjxppo.config.schema import Config
from mjxppo.config.values import defaults_for, from_dict, to_dict

LINES, COLUMNS = 50, 100
GROUPS = [group.name for group in helptext.groups_of(TrainArguments)[1:]]
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
            if field.name in ("env_options", "grid", "randomize"):
                continue  # named by the task, by mjxppo sweep, and in files only
            section = getattr(config, field.name)
            names = [f.name for f in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else [None]
            if field.name == "distill":
                names = [name for name in names if name not in ("policy", "normalize_obs")]  # the teacher's own
            for name in names:
                flag = field.name if name is None else f"{field.name}.{name}"
                option, negated = (flag.replace("_", "-"), flag.replace(".", ".[no-]").replace("_", "-"))
                assert f"--{option} " in text or f"--{negated} " in text, flag
        assert "--ppo.gamma FLOAT" in text and "(default 0.995, 0 to 1)" in text, "hopper's own default"
        assert "--ppo.clip-eps FLOAT Half-width of the probability ratio's clip range. (default 0.2, > 0)" in text
        assert "One of none, minibatch, batch." in text

    def test_has_no_field_without_an_explanation(self):
        for group in helptext.groups_of(TrainArguments):
            assert group.text or not group.name
            for option in group.options:
                assert option.text, option.flag

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
        (["benchmark", "phy"], ["physics"]),
        (["benchmark", "physics", "--num-e"], ["--num-envs"]),
        (["watch", "--on"], ["--once"]),
    ],
    ids=" ".join,
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(words, expected, completion_script):
    program = f"source {completion_script}; COMP_WORDS=(mjxppo {' '.join(words)}); COMP_CWORD={len(words)}\n"
    program += '_tyro_mjxppo; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.fixture(scope="module")
def completion_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "mjxppo.bash"
    path.write_text(completion.script("bash"))
    return path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell, capsys):
    assert run_cli("completion", shell) == 0
    text = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert name in text


class TestLayers:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("base.yaml").write_text("env: hopper\nppo: {gamma: 0.9, clip_eps: 0.1}\n")
        Path("fast.yaml").write_text("ppo: {gamma: 0.8, learning_rate: 1e-2}\n")
        Path("long.yaml").write_text("total_env_steps: 5_000_000\nppo: {gamma: 0.7}\n")

    def config(self, *arguments) -> Config:
        return train_command._config_of(train_command._parse(list(arguments), {}))

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
            (["--env", "hopper", "--total-env-steps", "1.5"], "'1.5' is not a whole number"),
            (["--env", "hopper", "--total-env-steps", "inf"], "'inf' is not a whole number"),
            (["--env", "hopper", "--env-options.ctrl-cost-weihgt", "3"], "did you mean ctrl_cost_weight?"),
            (["--env", "hopper", "--env-options.ctrl-cost-weight"], "takes a value"),
            (["--env", "hopper", "--env-options.x", "[1"], "cannot be read"),
            (["--env", "hopper", "--randomize.push", "0.1"], "randomize: is no option; write it in a YAML file"),
            (["--env", "hopper", "--policy.activation", "sillu"], "did you mean silu?"),
            (["--env", "hopper", "--learning-rate", "3"], "did you mean --ppo.learning-rate"),
        ],
        ids=lambda value: value[-1] if isinstance(value, list) else "",
    )
    def test_mistakes_are_one_line_with_the_nearest(self, arguments, message, capsys):
        assert run_cli("train", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1

    def test_values_are_found_however_they_are_written(self):
        arguments = ["--run_dir", "a", "--run-dir=b=c", "--other", "--run-dir"]
        assert layers.values_of(arguments, "run-dir") == ["a", "b=c"]


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
    parsed = train_command._parse(["--config", str(tmp_path / "mine.yaml"), "--seed", "3"], {})
    expected = to_dict(from_dict(defaults_for("hopper"))) | {"seed": 3}
    assert json.dumps(to_dict(train_command._config_of(parsed))) == json.dumps(expected)
