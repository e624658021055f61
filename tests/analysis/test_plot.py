"""Learning curves: smoothing, time, seeds as one curve with a band, the picture, and bad input in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mjxppo import cli
from mjxppo.analysis.plot import FILE, plot
from mjxppo.analysis.plot.curves import read_run, trailing_mean
from mjxppo.analysis.plot.drawing import make_figure
from mjxppo.analysis.plot.groups import group
from mjxppo.analysis.plot.overview import make_overview
from mjxppo.config.schema import Config, PpoConfig
from mjxppo.config.values import to_yaml
from mjxppo.errors import UserError


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_run(
    name,
    returns=(None, 10, 20, 30),
    episodes=50,
    evaluation=None,
    seed=0,
    env="hopper",
    steps=1000,
    value_losses=(),
    **ppo,
):
    """A run whose update i ends after ``steps * i`` steps and 2 i seconds."""
    directory = Path(name).resolve()
    directory.mkdir(parents=True)
    config = Config(env=env, seed=seed, ppo=PpoConfig(**ppo))
    (directory / "config.yaml").write_text(to_yaml(config))
    rows = [
        {
            "update": i,
            "env_steps": steps * i,
            "episode_return": value,
            "episodes": 0 if value is None else episodes,
            "approx_kl": 0.01 * i,
            "value_loss": value_losses[i - 1] if value_losses else 0.0,
            "time_s": 2.0 * i,
        }
        for i, value in enumerate(returns, start=1)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if evaluation is not None:
        content = {"engine": "gymnasium", "mean": evaluation, "std": 3.0, "episodes": 100}
        (directory / "eval.json").write_text(json.dumps(content))
    return directory


def curves_of(*directories, y="episode_return", x="env_steps", smooth=0, band="range"):
    return group([read_run(directory, y, x, smooth) for directory in directories], band)


def figure_of(*directories, y="episode_return", x="env_steps", smooth=0, band="range"):
    return make_figure(curves_of(*directories, y=y, x=x, smooth=smooth, band=band), y, x, smooth, band)


def legend_of(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


class TestSmoothing:
    @pytest.mark.parametrize("window", [0, 1, 30, 100, 1e9])
    def test_is_the_mean_of_the_last_episodes(self, window):
        rng = np.random.default_rng(0)
        values, weights = rng.normal(size=60), rng.integers(1, 40, size=60).astype(float)
        smooth = trailing_mean(values, weights, window)
        for i in range(60):
            start = i
            while start > 0 and weights[start : i + 1].sum() < window:
                start -= 1
            expected = np.average(values[start : i + 1], weights=weights[start : i + 1])
            assert smooth[i] == pytest.approx(expected, abs=1e-12)

    def test_weighs_updates_by_their_episodes_and_skips_those_without(self):
        directory = make_run("run", [None, 10, None, 40])
        run = read_run(directory, "episode_return", "env_steps", 100)
        np.testing.assert_array_equal(run.x, [2000, 4000])
        np.testing.assert_array_equal(run.y, [10, 40])
        np.testing.assert_array_equal(run.smooth, [10, 25])

    def test_leaves_metrics_that_are_not_of_episodes_alone(self):
        run = read_run(make_run("run"), "approx_kl", "env_steps", 100)
        np.testing.assert_allclose(run.smooth, [0.01, 0.02, 0.03, 0.04])


class TestTime:
    def times(self, readings, steps=1000):
        directory = make_run("run", [1.0] * len(readings), steps=steps)
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        lines = [json.dumps(row | {"time_s": time}) + "\n" for row, time in zip(rows, readings, strict=True)]
        (directory / "metrics.jsonl").write_text("".join(lines))
        return read_run(directory, "episode_return", "time_s", 0).x

    def test_is_interpolated_between_readings_of_the_clock(self):
        np.testing.assert_allclose(self.times([6, 6, 6, 10, 10]), [2, 4, 6, 8, 10])

    def test_goes_on_where_a_run_was_resumed(self):
        np.testing.assert_allclose(self.times([2, 4, 1, 2, 0.5]), [2, 4, 5, 6, 6.5])


class TestGroups:
    def test_seeds_of_one_configuration_become_one_curve(self):
        runs = [make_run(f"s{seed}", [10 + seed, 20 + seed, 36 + seed], seed=seed) for seed in (0, 3, 9)]
        (curve,) = curves_of(*runs)
        assert (curve.label, curve.seeds, curve.directories) == ("hopper", [0, 3, 9], runs)
        np.testing.assert_array_equal(curve.mean, [14, 24, 40])
        np.testing.assert_array_equal(curve.low, [10, 20, 36])
        np.testing.assert_array_equal(curve.high, [19, 29, 45])

    def test_bands_of_standard_deviations_and_confidence(self):
        runs = [make_run(f"s{seed}", [value], seed=seed) for seed, value in enumerate([1.0, 2.0, 6.0])]
        (std,), (ci,) = curves_of(*runs, band="std"), curves_of(*runs, band="ci95")
        sample_std = np.sqrt((4 + 1 + 9) / 2)
        assert std.high[0] - std.mean[0] == pytest.approx(sample_std)
        assert ci.mean[0] - ci.low[0] == pytest.approx(4.30265 * sample_std / np.sqrt(3), rel=1e-5)

    def test_losses_and_gradient_norms_are_compared_by_their_logarithms(self):
        runs = [make_run(f"s{seed}", [0, 0], seed=seed, value_losses=[10.0**-seed, 1.0]) for seed in (0, 2)]
        (curve,) = curves_of(*runs, y="value_loss", band="std")
        np.testing.assert_allclose(curve.mean, [0.1, 1.0])
        np.testing.assert_allclose(np.log10(curve.high / curve.mean), [np.sqrt(2), 0], atol=1e-12)
        (panel,) = figure_of(*runs, y="value_loss").axes
        assert panel.get_yscale() == "log" and "geometric" in panel.get_title("right")

    def test_a_loss_that_is_zero_somewhere_has_no_logarithm(self):
        runs = [make_run(f"s{seed}", [0], seed=seed, value_losses=[float(seed)]) for seed in (0, 2)]
        (curve,) = curves_of(*runs, y="value_loss")
        assert (curve.mean, curve.low, curve.high) == ([1], [0], [2])
        assert figure_of(*runs, y="value_loss").axes[0].get_yscale() == "linear"

    def test_settings_that_change_no_meaning_do_not_separate_seeds(self):
        runs = [make_run("a", seed=0), make_run("b", seed=1, block_size=64)]
        config = yaml.safe_load((runs[1] / "config.yaml").read_text())
        config |= {"num_devices": 4, "log": {"every_updates": 3, "tensorboard": False}}
        (runs[1] / "config.yaml").write_text(yaml.safe_dump(config))
        assert len(curves_of(*runs)) == 1

    def test_a_setting_that_differs_separates_and_names_the_curves(self):
        runs = [make_run(f"{gamma}-{seed}", seed=seed, gamma=gamma) for gamma in (0.99, 0.9) for seed in (0, 1)]
        curves = curves_of(*runs)
        assert [curve.label for curve in curves] == ["gamma = 0.99", "gamma = 0.9"]
        assert [curve.seeds for curve in curves] == [[0, 1], [0, 1]]

    def test_the_same_seed_twice_is_no_second_seed(self):
        curves = curves_of(make_run("x/a"), make_run("y/a"), make_run("x/c", seed=1))
        assert [(curve.seeds, curve.label) for curve in curves] == [([0, 1], "x"), ([0], "y/a")]

    def test_settings_alike_in_part_are_told_apart(self):
        runs = [make_run("a", gamma=0.9), make_run("b", gamma=0.9), make_run("c", gamma=0.8)]
        assert [curve.label for curve in curves_of(*runs)] == ["gamma = 0.9 (a)", "gamma = 0.9 (b)", "gamma = 0.8"]

    def test_many_differences_are_named_by_directory(self):
        runs = [make_run("plain"), make_run("fancy", gamma=0.9, gae_lambda=0.9, clip_eps=0.1, entropy_coef=0.01)]
        assert [curve.label for curve in curves_of(*runs)] == ["plain", "fancy"]

    def test_seeds_side_by_side_are_named_by_the_directory_that_holds_them(self):
        fancy = {"gamma": 0.9, "gae_lambda": 0.9, "clip_eps": 0.1, "entropy_coef": 0.01}
        runs = [make_run(f"plain/seed-{i}", seed=i) for i in (0, 1)]
        runs += [make_run(f"fancy/seed-{i}", seed=i, **fancy) for i in (0, 1)]
        assert [curve.label for curve in curves_of(*runs)] == ["plain", "fancy"]

    def test_a_run_without_a_configuration_stands_for_itself(self):
        runs = [make_run("a"), make_run("b", seed=1)]
        (runs[1] / "config.yaml").unlink()
        assert [(curve.label, curve.env) for curve in curves_of(*runs)] == [("hopper", "hopper"), ("b", "b")]
        assert legend_of(figure_of(*runs).axes[1]) == ["training"]

    def test_the_mean_ends_where_the_shortest_seed_does(self, capsys):
        (curve,) = curves_of(make_run("a", [1, 2, 3, 4]), make_run("b", [3, 4], seed=1))
        np.testing.assert_array_equal(curve.x, [1000, 2000])
        np.testing.assert_array_equal(curve.mean, [2, 3])
        assert "where the shortest of its 2 seeds ends" in capsys.readouterr().err

    def test_seeds_with_other_steps_are_interpolated(self):
        (curve,) = curves_of(make_run("a", [1, 3], steps=1000), make_run("b", [10, 30], seed=1, steps=1000))
        other = make_run("c", [1, 2, 3], seed=2, steps=700)
        (curve,) = curves_of(*curve.directories, other)
        np.testing.assert_array_equal(curve.x, [1000, 1400, 2000])
        np.testing.assert_allclose(curve.low, [1, 1.8, 2000 / 700])

    def test_seeds_that_share_no_steps_are_drawn_each_by_itself(self):
        curves = curves_of(make_run("a", [1, 2]), make_run("b", [None, None, 3, 4], seed=1))
        assert [curve.seeds for curve in curves] == [[0], [1]]
        assert len({curve.label for curve in curves}) == 2


class TestPicture:
    def test_says_what_it_shows(self):
        (panel,) = figure_of(make_run("a", [10.0, 20, 31], evaluation=1234.5), smooth=100).axes
        assert panel.get_xlabel() == "environment steps (thousands)"
        assert panel.get_ylabel() == "return of an episode (sum of rewards)"
        assert panel.get_title("left") == "hopper"
        assert panel.get_title("right") == "mean of the last 100 episodes; faint: of each update's"
        assert legend_of(panel) == [
            "training, seed 0; in Gymnasium 1,234.5 ± 3.0",
            "evaluated in Gymnasium, mean ± standard deviation over 100 episodes",
        ]
        levels = [line.get_ydata()[0] for line in panel.lines if len(set(line.get_ydata())) == 1]
        assert 1234.5 in levels
        raw, smooth = panel.lines[:2]
        np.testing.assert_array_equal(raw.get_ydata(), [10, 20, 31])
        np.testing.assert_array_equal(smooth.get_ydata(), [10, 15, 25.5])
        np.testing.assert_array_equal(smooth.get_xdata(), [1, 2, 3])

    def test_of_several_seeds_has_a_band_and_the_mean_evaluation(self):
        runs = [make_run(f"s{seed}", evaluation=100.0 + 20 * seed, seed=seed) for seed in (0, 1)]
        (panel,) = figure_of(*runs, band="ci95").axes
        assert legend_of(panel) == [
            "training, mean of 2 seeds; in Gymnasium 110 ± 14",
            "band: 95 % confidence interval of the mean",
            "evaluated in Gymnasium, mean ± standard deviation over 2 seeds",
        ]
        assert len(panel.collections) == 1

    def test_has_a_panel_for_each_task(self):
        figure = figure_of(make_run("a"), make_run("b", env="half_cheetah"))
        assert [panel.get_title("left") for panel in figure.axes] == ["hopper", "half_cheetah"]

    @pytest.mark.parametrize(("seconds", "unit"), [(1, "s"), (60, "min"), (3600, "h")])
    def test_shows_time_in_units_that_can_be_read(self, seconds, unit):
        directory = make_run("a", [1, 2, 3])
        text = (directory / "metrics.jsonl").read_text()
        for i in (1, 2, 3):
            text = text.replace(f'"time_s": {2.0 * i}', f'"time_s": {seconds * i}')
        (directory / "metrics.jsonl").write_text(text)
        (panel,) = figure_of(directory, x="time_s").axes
        assert panel.get_xlabel() == f"training time, without compilation ({unit})"
        np.testing.assert_allclose(panel.lines[0].get_xdata(), [1, 2, 3])

    def test_marks_the_evaluation_only_beside_returns_and_only_gymnasiums(self):
        directory = make_run("a", evaluation=50.0)
        (panel,) = figure_of(directory, y="approx_kl").axes
        assert legend_of(panel) == ["training, seed 0"]
        text = (directory / "eval.json").read_text()
        for content in (text.replace("gymnasium", "planar"), text[:-3], "[]"):
            (directory / "eval.json").write_text(content)
            assert legend_of(figure_of(directory).axes[0]) == ["training, seed 0"]

    @pytest.mark.parametrize("count", [1, 12])
    def test_fits_its_page(self, count):
        """Nothing is cut off, neither long names nor many of them."""
        runs = [make_run(f"{i}", evaluation=1000.0, gamma=0.9 + i / 1000, gae_lambda=0.5) for i in range(count)]
        figure = figure_of(*runs, make_run("other", env="half_cheetah"))
        figure.savefig("x.png")
        page = figure.bbox
        for panel in figure.axes:
            box = panel.get_tightbbox()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
            assert panel.bbox.height > 0.4 * page.height and panel.bbox.width > 0.3 * page.width


class TestOverview:
    def test_has_a_panel_for_each_metric_and_names_the_variants(self, capsys):
        runs = {
            name: make_run(name, returns, evaluation=1000.0, gamma=gamma)
            for name, returns, gamma in [("far", [1, 2], 0.9), ("near", [3, 4], 0.5), ("young", [None], 0.1)]
        }
        figure = make_overview(runs, ["episode_return", "approx_kl"], "hopper")
        returns, kl = figure.axes
        assert (returns.get_ylabel(), kl.get_ylabel()) == (
            "return of an episode (sum of rewards)",
            "KL divergence per update (nats)",
        )
        (legend,) = figure.legends
        labels = [text.get_text() for text in legend.get_texts()]
        assert [label.split(",")[0] for label in labels[:2]] == ["far", "near"]
        assert "1,000" in labels[0] and labels[-1].startswith("evaluated in Gymnasium")
        assert "left out" in capsys.readouterr().err, "a variant without finished episodes is named"

    def test_a_variant_that_lacks_a_metric_is_left_out_and_a_metric_that_all_lack_refused(self, capsys):
        runs = {name: make_run(name, [1, 2]) for name in ("with", "without")}
        file = runs["without"] / "metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        without = [{name: value for name, value in row.items() if name != "approx_kl"} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in without))
        figure = make_overview(runs, ["approx_kl"], "hopper")
        assert "left out" in capsys.readouterr().err
        (legend,) = figure.legends
        assert [text.get_text().split(",")[0] for text in legend.get_texts()] == ["with"]
        with pytest.raises(UserError, match="no metric 'aprox_kl'; did you mean approx_kl"):
            make_overview(runs, ["aprox_kl"], "hopper")

    def test_a_spare_place_holds_the_legend(self):
        runs = {"only": make_run("only", [1, 2])}
        figure = make_overview(runs, ["episode_return", "approx_kl", "value_loss", "episodes", "time_s"], "hopper")
        assert not figure.legends and len(figure.axes) == 6
        assert [text.get_text() for text in figure.axes[5].get_legend().get_texts()] == ["only, seed 0"]


class TestCommand:
    def run(self, capsys, *arguments):
        code = cli.main(["plot", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    def test_of_one_run_writes_into_it(self, capsys):
        directory = make_run("runs/a")
        code, out, err = self.run(capsys, directory)
        assert (code, err) == (0, "")
        assert json.loads(out) == {
            "path": str(directory / FILE),
            "x": "env_steps",
            "y": "episode_return",
            "curves": [
                {
                    "label": "hopper",
                    "env": "hopper",
                    "seeds": [0],
                    "runs": [str(directory)],
                    "final_x": 4000.0,
                    "final_y": 25.0,
                }
            ],
        }
        with Image.open(directory / FILE) as image:
            assert image.width > 1000 and len(image.convert("RGB").getcolors(1 << 20)) > 50

    def test_of_several_runs_writes_here_and_counts_none_twice(self, capsys):
        first = make_run("runs/a")
        make_run("runs/b", seed=1)
        (first / "ckpt").mkdir()
        Path("runs/latest").symlink_to("b")
        code, out, _ = self.run(capsys, "runs/a", "runs/b", "runs/latest", "runs/a/ckpt")
        assert code == 0 and Path(FILE).is_file()
        assert json.loads(out)["curves"][0]["seeds"] == [0, 1]

    @pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
    def test_writes_the_format_that_the_suffix_names(self, capsys, suffix, start):
        make_run("run")
        assert self.run(capsys, "run", "--out", f"made/x{suffix}")[0] == 0
        assert Path(f"made/x{suffix}").read_bytes().startswith(start)
        assert [path.name for path in Path("made").iterdir()] == [f"x{suffix}"]

    def test_leaves_out_runs_without_values_and_says_so(self, capsys):
        make_run("a")
        make_run("b", [None, None], seed=1)
        code, out, err = self.run(capsys, "a", "b")
        assert code == 0 and json.loads(out)["curves"][0]["seeds"] == [0]
        assert err.startswith("left out: ") and "no episode has finished" in err and len(err.splitlines()) == 1

    def test_reads_a_run_that_is_being_written(self, capsys):
        directory = make_run("a")
        with (directory / "metrics.jsonl").open("a") as file:
            file.write('{"update": 5, "env_st')
        assert self.run(capsys, "a")[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arguments are required: runs"),
            (["missing"], "missing: there is no such directory"),
            (["empty-folder"], "empty-folder: holds no metrics.jsonl"),
            (["empty"], "is empty; the run has not finished its first updates"),
            (["young"], "episode_return has no values yet; no episode has finished"),
            (["other"], "holds lines that are no metrics"),
            (["binary"], "holds lines that are no metrics"),
            (["run", "--y", "episode_retrun"], "no metric 'episode_retrun'; did you mean episode_return?"),
            (["run", "--y", "kl"], "did you mean approx_kl?"),
            (["run", "--y", "zzz"], "known: approx_kl, env_steps"),
            (["run", "--x", "updates"], "env_steps"),
            (["run", "--out", "x.jpeg2"], "x.jpeg2 must end in .png, .pdf, .svg"),
            (["run", "--out", "run/config.yaml/x.png"], "cannot write run/config.yaml/x.png"),
            (["run", "--out", "folder.png"], "folder.png is a directory"),
            (["run", "--smooth", "-1"], "smooth: must be 0 or more"),
        ],
    )
    def test_refuses_bad_input_with_one_line(self, capsys, arguments, message):
        make_run("run")
        make_run("young", [None])
        for name, content in (("empty", b""), ("other", b"[1]\n"), ("binary", b"\xff\xfe\x00")):
            Path(name).mkdir()
            Path(name, "metrics.jsonl").write_bytes(content)
        Path("empty-folder").mkdir()
        Path("folder.png").mkdir()
        code, out, err = self.run(capsys, *arguments)
        assert code == 2 and out == "" and len(err.strip().splitlines()) == 1
        assert message in err

    def test_needs_no_jax(self):
        make_run("run")
        code = "import sys; from pathlib import Path; from mjxppo.analysis.plot import plot; plot([Path('run')]);"
        code += "print([m for m in ('jax', 'mujoco', 'matplotlib.pyplot') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_from_python():
    result = plot([make_run("a")], Path("x.png"), y="approx_kl", x="time_s", smooth=0)
    assert result["curves"][0]["final_x"] == 8.0 and result["curves"][0]["final_y"] == pytest.approx(0.04)
