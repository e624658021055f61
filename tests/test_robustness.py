"""Returns on robots that differ from the model."""

import numpy as np
import pytest

from mjxppo import cli, robustness
from mjxppo.config import Config
from mjxppo.envs.locomotion import gymnasium_model
from mjxppo.errors import UserError
from mjxppo.evaluate import evaluate

CONFIG = Config(env="hopper")


def stand(obs):
    """A policy that lets all joints go limp."""
    return np.zeros((len(obs), 3))


def mean_return(changes):
    return evaluate(stand, CONFIG, "gymnasium", 3, 0, changes)["mean"]


def test_a_change_by_nothing_changes_nothing():
    unchanged = dict.fromkeys(robustness.FIELDS, 1.0) | {"slope": 0.0}
    assert mean_return(unchanged) == mean_return(None)


@pytest.mark.parametrize("changes", [{"gravity": 0.5}, {"damping": 2.0}, {"slope": 5.0}, {"mass": 1.5}])
def test_every_change_is_felt(changes):
    assert mean_return(changes) != mean_return(None)


def test_changes_of_the_same_field_multiply():
    model = gymnasium_model("hopper.xml")
    fields = robustness.changed_fields(model, {"mass": 2.0, "inertia": 3.0, "gravity": 0.5, "slope": 90.0})
    np.testing.assert_allclose(fields["body_mass"], 2 * model.body_mass)
    np.testing.assert_allclose(fields["body_inertia"], 6 * model.body_inertia)
    np.testing.assert_allclose(fields["opt.gravity"], [-9.81 / 2, 0, 0], atol=1e-12)


def test_a_grid_holds_the_return_of_every_combination_and_is_drawn(tmp_path):
    axes = [robustness.parse_axis("gravity=0.5:1", 2), robustness.parse_axis("slope=-4:4", 3)]
    result = robustness.grid([(stand, CONFIG)], axes, 3, 0)
    assert result["axes"] == {"gravity": [0.5, 1.0], "slope": [-4.0, 0.0, 4.0]}
    assert np.shape(result["mean"]) == (2, 3)
    assert result["nominal"] == [mean_return(None)]
    assert result["mean"][0][2] == mean_return({"gravity": 0.5, "slope": 4.0})
    assert result["share"][1][1] == 1.0
    robustness.draw(result, tmp_path / "grid.png")
    line = {**result, "axes": {"gravity": [0.5, 1.0]}, "mean": [1.0, 2.0]}
    robustness.draw(line, tmp_path / "line.png")
    for name in ("grid", "line"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("friction", "perturb: 'friction' is not NAME=LOW:HIGH, such as friction=0.5:1.5"),
        ("friction=1", "is not NAME=LOW:HIGH"),
        ("length=1:2", "perturb: 'length' is none of mass, inertia"),
        ("mass=2:1", "the range of mass must be from a smaller to a larger number, not 2:1"),
        ("mass=0:1", "factors of mass must be positive, not 0"),
    ],
)
def test_what_cannot_be_changed_so_is_refused(text, message, capsys):
    assert cli.main(["evaluate", "nowhere", "--perturb", text]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--perturb", "mass=0.8:1.2", "--heat-map", "grid"], "heat_map: grid must end in .png, .pdf, .svg"),
        (["--heat-map", "grid.png"], "heat_map: shows what --perturb asks for"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_evaluated(options, message, capsys):
    assert cli.main(["evaluate", "nowhere", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_grid_has_at_most_two_axes():
    axes = [robustness.parse_axis(f"{name}=0.5:1", 2) for name in ("mass", "mass")]
    with pytest.raises(UserError, match=r"^perturb: one quantity, or two different ones, not mass and mass"):
        robustness.grid([(stand, CONFIG)], axes, 1, 0)
