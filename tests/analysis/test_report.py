"""The report of a run: what it shows, what it does without, and how it fares in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import browser
import numpy as np
import pytest

from mjxppo import cli
from mjxppo.analysis import report
from mjxppo.analysis.report import figures
from mjxppo.analysis.report.facts import read_facts
from mjxppo.config.schema import Config, PpoConfig
from mjxppo.config.sweep import member_directories, members_of
from mjxppo.config.values import to_yaml
from mjxppo.console import duration
from mjxppo.errors import UserError
from mjxppo.policy import scores
from mjxppo.render.video import write_video
from mjxppo.run import machine


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_run(name="run", updates=40, budget=40_000, env="hopper", video=True, evaluation=True, **ppo):
    """A run whose device calls do two updates of 1000 steps in 1 s, with 0.25 s of host work between them."""
    directory = Path(name)
    directory.mkdir(parents=True)
    config = Config(env=env, total_env_steps=budget, ppo=PpoConfig(**ppo))
    (directory / "config.yaml").write_text(to_yaml(config))
    rows = [
        {
            "update": i + 1,
            "env_steps": 1000 * (i + 1),
            "episode_return": 10.0 * i if i else None,
            "episodes": 5 if i else 0,
            "approx_kl": 0.01,
            "env_steps_per_s": 2000.0,
            "time_s": 1.25 * (i // 2 + 1),
        }
        for i in range(updates)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if evaluation:
        returns = np.random.default_rng(0).normal(3000, 100, 100)
        result = {"engine": "gymnasium", "episodes": 100, "mean": 3000.0, "std": 100.0, "min": 2800.0, "max": 3200.0}
        result |= {"length_mean": 1000.0, "returns": list(returns), "seeds": list(range(100))}
        (directory / "eval.json").write_text(json.dumps(result))
    if video:
        frames = [np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 250, 10)]
        write_video(directory / "video.mp4", frames, 64, 64, fps=25)
    return directory


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run that has everything."""
    run = make_run(str(tmp_path_factory.mktemp("report") / "run <b>&"), gamma=0.9)
    machine.record(run, 0)
    parts = {"physics_ms": 4.0, "policy_ms": 1.0, "gae_ms": 0.5, "gradient_steps_ms": 3.5}
    (run / "split.json").write_text(json.dumps({"results": [{"update_ms": 9.0, "num_devices": 2} | parts]}))
    result = report.report(run)
    assert set(result["sections"]) == {"evaluation", "split", "machine", "curve", "panels", "video"}
    return Path(result["path"])


def text_of(page: Path) -> str:
    return re.sub(r"data:[a-z/+0-9]+;base64,[A-Za-z0-9+/=]+", "DATA", page.read_text())


def test_shows_result_configuration_machine_and_time(page):
    text = text_of(page)
    for wanted in (
        "3,000",
        "ppo.gamma",
        "0.9",
        "seeds 0 to 99",
        "jax ",
        "processor",
        "4.0 ms",
        "total_env_steps: 40000",
    ):
        assert wanted in text, wanted


def test_losses_are_drawn_on_a_logarithmic_axis_and_lengths_are_not(monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "_svg", lambda figure: drawn.setdefault(figure.axes[0].get_title("left"), figure))
    rows = [{"env_steps": 1000 * i, "value_loss": 10.0**-i, "episode_length": 10.0 * i} for i in range(1, 6)]
    assert len(figures.learning_panels(rows)) == 2
    scales = {title: figure.axes[0].get_yscale() for title, figure in drawn.items()}
    assert scales == {"value loss": "log", "episode length (steps)": "linear"}


def test_a_loss_of_zero_is_drawn():
    assert len(figures.learning_panels([{"env_steps": 1000, "value_loss": 0.0}])) == 1


def test_names_cannot_inject_markup(page):
    assert "run <b>" not in text_of(page) and "run &lt;b&gt;&amp;" in text_of(page)


def test_refers_to_nothing_outside_itself(page):
    text = text_of(page)
    assert not re.findall(r"""(?:src|href)=["'](?!DATA|data:,)|url\(|@import|<script|https?://""", text)


@pytest.mark.skipif(browser.find() is None, reason="needs a browser: apt install chromium")
def test_opens_in_a_browser_without_a_request_and_decodes_pictures_and_video(page, tmp_path):
    with browser.Browser(tmp_path / "profile") as chrome:
        chrome.open(page)
        sizes = chrome.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
        assert len(sizes) == 4 and min(sizes) > 100, "the curve, the histogram, two panels"
        video = chrome.evaluate(
            """new Promise((resolve) => { const v = document.querySelector("video");
            const end = () => resolve([v.error && v.error.message, v.videoWidth, v.duration]);
            v.onerror = v.onseeked = end; v.currentTime = 0.5; })"""
        )
        assert video[:2] == [None, 64] and video[2] == pytest.approx(1.0, abs=0.1)
        for width in (1200, 400):  # a desk and a telephone
            chrome.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
            )
            assert chrome.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        background = "getComputedStyle(document.body).backgroundColor"
        light = chrome.evaluate(background)
        chrome.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        dark = chrome.evaluate(background)
        assert sum(map(int, re.findall(r"\d+", light))) > 600 and sum(map(int, re.findall(r"\d+", dark))) < 150
        others = [url for url in chrome.requests if not url.startswith("data:")]
        assert others == [page.absolute().as_uri()]
        assert chrome.complaints == []


def test_of_a_run_under_way_leaves_out_what_is_not_there_yet():
    run = make_run(updates=7, video=False, evaluation=False)
    result = report.report(run)
    assert result["sections"] == ["curve", "panels"]
    assert "not at its budget yet" in text_of(Path(result["path"]))


def test_of_a_run_without_a_finished_episode_has_no_curve():
    assert report.report(make_run(updates=1, video=False, evaluation=False))["sections"] == ["panels"]


def test_of_several_policies_shows_them_together_and_each_alone():
    run = make_run(video=False, evaluation=False)
    config = dataclasses.replace(Config(env="hopper", total_env_steps=40_000), num_seeds=3)
    (run / "config.yaml").write_text(to_yaml(config))
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").unlink()
    machine.record(run, 0)
    for directory, member in zip(member_directories(run, config), members_of(config), strict=True):
        directory.mkdir()
        (directory / "metrics.jsonl").write_text(rows)
        (directory / "config.yaml").write_text(to_yaml(member.config))
    results = [{"engine": "gymnasium", "episodes": 5, "mean": mean} for mean in (900.0, 1000.0, 1400.0)]
    (run / "eval.json").write_text(json.dumps(scores.summarize_members(config, results)))
    result = report.report(run)
    assert Path(result["path"]) == (run / "report.html").absolute()
    assert set(result["sections"]) == {"curve", "evaluation", "panels", "machine"}
    text = text_of(Path(result["path"]))
    assert "3 policies" in text and "1,100" in text and "each of 3 policies" in text
    assert report.report(run / "seed-1")["path"] == str((run / "seed-1" / "report.html").absolute())
    (run / "summary.json").write_text('{"compile_s": 12.5}')
    alone = read_facts(run / "seed-1")
    assert alone.times.compile_s == 12.5 and len(alone.machines) == 1


def test_of_a_long_run_stays_small():
    run = make_run(updates=30_000, budget=10**9, video=False, evaluation=False)
    assert report.report(run)["bytes"] < 2_000_000


def test_time_is_split_by_device_calls_and_adds_up_over_starts():
    run = make_run(updates=40)
    times = read_facts(run).times
    assert (times.device_s, times.host_s) == (pytest.approx(20.0), pytest.approx(5.0))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows[20:]:
        row["time_s"] -= rows[19]["time_s"]  # as after a resume
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    times = read_facts(run).times
    assert (times.device_s, times.host_s) == (pytest.approx(20.0), pytest.approx(5.0))


def test_each_start_is_recorded_and_damage_is_no_obstacle(tmp_path):
    machine.record(tmp_path, 0)
    machine.record(tmp_path, 70)
    assert [entry["after_update"] for entry in machine.read(tmp_path)] == [0, 70]
    assert machine.read(tmp_path)[0]["versions"]["jax"] and machine.read(tmp_path)[0]["hardware"]["cores"] >= 1
    (tmp_path / "machine.json").write_text("{")
    assert machine.read(tmp_path) == []


def test_durations_read_well():
    assert [duration(s) for s in (3.14, 59.6, 61, 3599.7, 7500)] == [
        "3.1 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 05 min",
    ]


def test_the_command_prints_json_and_takes_a_checkpoint_for_its_run(capsys):
    run = make_run(video=False)
    (run / "ckpt").mkdir()
    assert cli.main(["report", str(run / "ckpt"), "--out", "there/page.html"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == "there/page.html" and Path("there/page.html").stat().st_size == printed["bytes"]


@pytest.mark.parametrize(
    "make, out, message",
    [
        (lambda: Path("nothing"), None, "no such directory"),
        (lambda: make_run(updates=0), None, "has logged nothing yet"),
        (make_run, Path("page.pdf"), "must end in .html"),
    ],
)
def test_bad_input_is_one_line(make, out, message):
    with pytest.raises(UserError, match=message) as error:
        report.report(make(), out)
    assert "\n" not in str(error.value)
