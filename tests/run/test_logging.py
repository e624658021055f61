"""TensorBoard shows curves, hyperparameters and video; Weights & Biases is there only for those who ask."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mjxppo import cli
from mjxppo.config.schema import Config, LogConfig
from mjxppo.config.values import defaults_for, from_dict, merge
from mjxppo.render.video import write_video
from mjxppo.run import metrics
from mjxppo.run.metrics import MetricsWriter

ROW = {"update": 1, "env_steps": 1000, "expected_return": 3.5, "approx_kl": 0.01, "policy_loss": None}
RESULT = {"mean": 3000.0, "std": 2.0, "min": 2990.0, "max": 3010.0, "engine": "gymnasium"}


def events(run_dir: Path) -> list:
    """All events of a run in the order in which TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((run_dir / "tb").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def values(run_dir: Path) -> dict:
    return {value.tag: value for event in events(run_dir) for value in event.summary.value}


def log_a_run(run_dir: Path, config: Config, video: Path | None = None) -> None:
    writer = MetricsWriter(run_dir, config=config)
    writer.write([ROW])
    writer.close()
    metrics.conclude(run_dir, config, RESULT, 1000, video)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, [np.full((240, 320, 3), shade, np.uint8) for shade in range(0, 240, 2)], 320, 240, fps=60)
    return path


def test_tensorboard_has_curves_hyperparameters_and_an_animation(tmp_path, video):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    changed = from_dict(merge(defaults_for("hopper"), {"seed": 3, "ppo": {"adam_eps": 1e-3, "gamma": 0.5}}))
    log_a_run(tmp_path / "run", changed, video)
    found = values(tmp_path / "run")
    assert found["episode/expected_return"].simple_value == 3.5 and "learning/policy_loss" not in found
    assert found["eval/mean"].simple_value == 3000.0

    def plugin(tag):
        return HParamsPluginData.FromString(found[tag].metadata.plugin_data.content)

    session = plugin("_hparams_/session_start_info").session_start_info.hparams
    assert session["seed"].number_value == 3 and session["ppo.gamma"].number_value == 0.5
    assert session["policy.hidden_sizes"].string_value == str(list(changed.policy.hidden_sizes))
    # What was changed, and what matters most; not all of more than a hundred fields.
    assert "ppo.adam_eps" in session and "ppo.adam_b1" not in session and "log.tensorboard" not in session
    columns = [info.name for info in plugin("_hparams_/experiment").experiment.hparam_infos]
    assert len(columns) < 20
    shown = {info.name.tag for info in plugin("_hparams_/experiment").experiment.metric_infos}
    assert {"eval/mean", "episode/expected_return"} <= shown <= set(found)

    picture = Image.open(io.BytesIO(found["video"].image.encoded_image_string))
    assert (picture.format, picture.size) == ("GIF", (320, 240))
    assert picture.n_frames == 25, "two seconds at 12.5 frames a second"


def test_the_end_is_read_last_and_replaces_nothing(tmp_path):
    """Both files may be opened within one second, by one process."""
    log_a_run(tmp_path, Config(env="hopper"))
    tags = [value.tag for event in events(tmp_path) for value in event.summary.value]
    assert tags.index("_hparams_/experiment") < tags.index("episode/expected_return") < tags.index("eval/mean")


class FakeWandb(types.ModuleType):
    """What of wandb is used, with a record of the calls."""

    def __init__(self, failing=()):
        super().__init__("wandb")
        self.calls, self.failing, self.summary = [], failing, {}
        self.Video = lambda path, format: f"video {Path(path).name}"

    def init(self, **options):
        self.options = options
        return self._call("init") or self

    def log(self, values, step=None):
        self._call("log", values, step)

    def finish(self):
        self._call("finish")

    def _call(self, name, *arguments):
        self.calls.append((name, *arguments))
        if name in self.failing:
            raise OSError(f"{name}: no route\nto host")


def with_wandb(monkeypatch, **options) -> FakeWandb:
    fake = FakeWandb(**options)
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


WANDB = Config(env="hopper", log=LogConfig(wandb=True))


def test_wandb_gets_the_numbers_and_a_resumed_run_keeps_its_identity(tmp_path, video, monkeypatch):
    fake = with_wandb(monkeypatch)
    log_a_run(tmp_path, WANDB, video)
    assert [call[0] for call in fake.calls] == ["init", "log", "finish", "init", "log", "finish"]
    assert fake.calls[1][1:] == ({"update": 1, "env_steps": 1000, "expected_return": 3.5, "approx_kl": 0.01}, 1000)
    assert fake.summary["eval/mean"] == 3000.0 and fake.calls[4][1] == {"video": "video video.mp4"}
    first = fake.options["id"]
    assert (fake.options["name"], fake.options["config"]["env"]) == (tmp_path.name, "hopper")
    MetricsWriter(tmp_path, config=WANDB).close()
    assert fake.options["id"] == first and fake.options["resume"] == "allow"


def test_wandb_gets_an_evaluation_without_its_step_which_may_be_an_earlier_one(tmp_path, monkeypatch):
    fake = with_wandb(monkeypatch)
    writer = MetricsWriter(tmp_path, config=WANDB)
    writer.write_evaluation({"update": 3, "env_steps": 500, "eval/return_mean": 7.0, "eval/return_std": None})
    writer.close()
    assert fake.calls[1] == ("log", {"eval/env_steps": 500, "eval/return_mean": 7.0}, None)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["eval/return_std"] is None


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_trouble_with_wandb_is_said_once_and_costs_nothing_else(failing, tmp_path, monkeypatch, capsys):
    with_wandb(monkeypatch, failing=(failing,))
    writer = MetricsWriter(tmp_path, config=WANDB)
    for _ in range(3):
        writer.write([ROW])
    writer.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and f"{failing}: no route to host" in error


def test_wandb_is_asked_for_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["--env", "brax:fast", "--ppo.num-envs", "64", "--ppo.block-size", "16", "--log.wandb"]
    assert cli.main(["train", *arguments]) == 2
    assert "pip install 'mjxppo[wandb]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nobody_imports_wandb_who_did_not_ask_for_it(tmp_path):
    (tmp_path / "wandb.py").write_text("raise SystemExit('wandb was imported')")
    code = (
        "import sys; from pathlib import Path; from mjxppo.config.schema import Config\n"
        "from mjxppo.run import metrics, loop\n"
        f"w = metrics.MetricsWriter(Path('run'), config=Config(env='hopper')); w.write([{ROW!r}]); w.close()\n"
        "metrics.conclude(Path('run'), Config(env='hopper'), {}, 1, None); print('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_a_resumed_run_of_an_older_version_gets_the_columns_that_it_lacks(tmp_path):
    old, new = {"update": 1, "loss": 2.0, "dropped": 5}, {"update": 2, "loss": 3.0, "added": 4.0}
    writer = MetricsWriter(tmp_path)
    writer.write([{"env_steps": 1, **old}])
    writer.close()
    writer = MetricsWriter(tmp_path, resume_after=1)
    writer.write([{"env_steps": 2, **new}])
    writer.write([{"env_steps": 3, **new, "update": 3}])
    writer.close()
    lines = (tmp_path / "metrics.csv").read_text().split()
    assert lines == ["env_steps,update,loss,dropped,added", "1,1,2.0,5,", "2,2,3.0,,4.0", "3,3,3.0,,4.0"]
