"""Displays of work in progress: on terminals of any width, in notebooks, and where there is neither."""

from __future__ import annotations

import sys
import types

import pytest

from mjxppo import console


def training(width: int, label: str = "half_cheetah") -> str:
    line = console.ProgressLine(label, 2, 100_000_000, 0)
    line._started -= 100.0
    line.update(12_345_678, 165_300.0, 12_345.6, extent=0.3)
    return line._draw(width)


@pytest.mark.parametrize("label", ["hopper", "half_cheetah", "gymnasium:HalfCheetah-v5"])
@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_training_fits_the_terminal_with_its_return_and_the_time_left(width, label):
    text = training(width, label)
    assert len(text) <= width
    assert label in text and "12.3M/100.0M" in text and "return 12346" in text and text.endswith(" left"), text
    assert "━" in text and "─" in text


def test_what_is_wide_shows_more():
    assert "165.3k/s" in training(80) and "steps/s" not in training(80)
    assert "on 2 devices" in training(200) and "at 30% of the ranges" in training(200)


def test_a_sentence_without_a_terminal():
    text = training(0)
    assert text.startswith(
        "half_cheetah: 12.3M/100.0M steps (12%), 165.3k steps/s, return 12346 at 30% of the ranges, "
    )


def test_without_a_terminal_a_line_is_printed_every_half_minute(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(console, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    with console.ProgressLine("hopper", 1, 1000, 0) as line:
        for done in range(1, 101):
            clock[0] += 1.0
            line.update(done, 1.0, None)
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 3, printed.err
    assert printed.err.splitlines()[0].startswith("hopper: 30/1.0k steps (3%)")


def test_waiting_without_a_terminal_says_so_again_and_again(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_INTERVAL_S", 0.05)
    said = []
    monkeypatch.setattr(console, "say", lambda message: said.append(message))
    with console.waiting("compiling"):
        while len(said) < 2:
            console.time.sleep(0.01)
    assert all(message.startswith("compiling: ") for message in said)


def test_a_notebook_gets_a_bar_that_is_replaced(monkeypatch, capsys):
    shown = []

    class Cell:
        def update(self, content, raw):
            shown.append(content["text/plain"])

    ipython = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: ipython))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=lambda *args, **options: Cell()))
    with console.ProgressLine("hopper", 1, 1000, 0) as line:
        line.update(500, 10.0, 20.0)
    assert len(shown) == 2 and "━" in shown[-1] and "return 20" in shown[-1]
    assert capsys.readouterr().err == ""


def test_counting_shows_nothing_for_short_work_and_how_many_are_left_for_long_work(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(console, "PLAIN_INTERVAL_S", 10.0)
    assert list(console.counted("abc", 3, "frames")) == list("abc")
    assert capsys.readouterr().err == ""
    for _ in console.counted(range(100), 100, "frames"):
        clock[0] += 1.0
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "10 of 100 frames, 1 min 30 s left"


def test_the_program_is_started_as_it_was_found(monkeypatch, tmp_path):
    monkeypatch.setattr(console.shutil, "which", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert console.program() == f"{sys.executable} -m mjxppo"
    monkeypatch.setattr(console.sys, "executable", str(tmp_path / "an env" / "bin" / "python"))
    assert console.program() == "'an env/bin/python' -m mjxppo"
    monkeypatch.setattr(console.shutil, "which", lambda name: str(tmp_path / "an env" / "bin" / "mjxppo"))
    assert console.program() == "mjxppo"


@pytest.mark.parametrize(
    ("value", "said"),
    [(9876.4, "9876"), (100.0, "100"), (99.96, "100"), (99.94, "99.9"), (-3.467, "-3.47"), (0.4, "0.4"), (0.0, "0")],
)
def test_returns_keep_three_digits_and_no_more_than_a_whole_number(value, said):
    assert console.score(value) == said
    assert console.score(-12345.6, ",") == "-12,346"
