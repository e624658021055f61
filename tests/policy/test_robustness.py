"""Returns on robots that differ from the model."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from mjxppo import cli
from mjxppo.analysis.plot import robustness as plotted
from mjxppo.analysis.plot.robustness import draw_grid, draw_shares
from mjxppo.config.schema import Config
from mjxppo.envs.randomize.changes import changed_fields
from mjxppo.envs.randomize.quantities import FIELDS
from mjxppo.envs.robot import robot_model
from mjxppo.errors import UserError
from mjxppo.physics import modify_model
from mjxppo.policy import robustness
from mjxppo.policy.evaluate import evaluate

CONFIG = Config(env="hopper")


@pytest.mark.parametrize("nominal, worst", [(3000.0, 100.0), (-200.0, -1500.0), (-200.0, -100.0), (0.0, 0.0)])
def test_what_is_as_good_as_on_the_model_itself_has_the_best_colour(nominal, worst):
    low, high = plotted._limits(np.array([[worst, nominal], [nominal + 50, nominal]]), nominal)
    assert low < high == nominal and low <= min(worst, nominal)


def stand(obs):
    """A policy that lets all joints go limp."""
    return np.zeros((len(obs), 3))


def mean_return(changes):
    return evaluate(stand, CONFIG, "gymnasium", 3, 0, changes)["mean"]


def test_a_change_by_nothing_changes_nothing():
    unchanged = dict.fromkeys(FIELDS, 1.0) | {"slope": 0.0}
    assert mean_return(unchanged) == mean_return(None)


@pytest.mark.parametrize("changes", [{"gravity": 0.5}, {"damping": 2.0}, {"slope": 5.0}, {"mass": 1.5}, {"size": 1.1}])
def test_every_change_is_felt(changes):
    assert mean_return(changes) != mean_return(None)


def test_a_change_of_size_is_the_model_compiled_at_that_size():
    spec = mujoco.MjSpec.from_file(str(Path(gymnasium.__file__).parent / "envs/mujoco/assets/hopper.xml"))
    for body in spec.bodies[1:]:
        body.pos = 1.2 * body.pos
        for part in (*body.geoms, *body.joints):
            part.pos = 1.2 * part.pos
        for geom in body.geoms:
            geom.size = 1.2 * geom.size
    larger, changed = spec.compile(), robot_model("hopper.xml")
    modify_model(changed, changed_fields(changed, {"size": 1.2}))
    for name in ("body_mass", "body_inertia", "body_ipos", "body_invweight0", "dof_invweight0"):
        np.testing.assert_allclose(getattr(changed, name), getattr(larger, name), rtol=1e-12, atol=1e-15)
    ends = []
    for model in (larger, changed):
        data = mujoco.MjData(model)
        data.qvel[:], data.ctrl[:] = 0.3, [-1, 0.5, 1]
        mujoco.mj_step(model, data, 300)
        assert data.ncon
        ends.append(data.qvel.copy())
    np.testing.assert_allclose(*ends, rtol=1e-6)


@pytest.mark.parametrize("what", ["mesh", "tendon"])
def test_what_does_not_grow_is_refused(what):
    shape = '<geom type="mesh" mesh="m"/>' if what == "mesh" else '<geom size="0.1"/>'
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
        <worldbody><site name="a"/><body><joint/>{shape}<site name="b" pos="0 0 1"/></body></worldbody>
        {'<tendon><spatial><site site="a"/><site site="b"/></spatial></tendon>' if what == "tendon" else ""}</mujoco>"""
    )
    reason = "shape is in a file" if what == "mesh" else "tendons through points"
    with pytest.raises(UserError, match=f"^perturb: size: the model has .*{reason}"):
        changed_fields(model, {"size": 1.1})


def test_changes_of_the_same_field_multiply():
    model = robot_model("hopper.xml")
    fields = changed_fields(model, {"mass": 2.0, "inertia": 3.0, "gravity": 0.5, "slope": 90.0})
    np.testing.assert_allclose(fields["body_mass"], 2 * model.body_mass)
    np.testing.assert_allclose(fields["body_inertia"], 6 * model.body_inertia)
    np.testing.assert_allclose(fields["opt.gravity"], [-9.81 / 2, 0, 0], atol=1e-12)


def test_a_grid_holds_the_return_of_every_combination_and_is_drawn(tmp_path):
    axes = [robustness.parse_axis("gravity=0.5:1", 2), robustness.parse_axis("slope=-4:4", 3)]
    result = robustness.measure_grid([(stand, CONFIG)], axes, 3, 0)
    assert result["axes"] == {"gravity": [0.5, 1.0], "slope": [-4.0, 0.0, 4.0]}
    assert np.shape(result["mean"]) == (2, 3)
    assert result["nominal"] == [mean_return(None)]
    assert result["mean"][0][2] == mean_return({"gravity": 0.5, "slope": 4.0})
    assert result["share"][1][1] == 1.0
    draw_grid(result, tmp_path / "grid.png")
    line = {**result, "axes": {"gravity": [0.5, 1.0]}, "mean": [1.0, 2.0]}
    draw_grid(line, tmp_path / "line.png")
    for name in ("grid", "line"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_shares_are_compared_where_the_first_has_fallen(tmp_path):
    axes = {"gravity": [0.5, 1.0], "slope": [-4.0, 4.0]}
    grids = {
        "one": {"axes": axes, "nominal": [3000.0, 1000.0], "share": [[1.0, 0.4], [0.2, 0.6]]},
        "other": {"axes": axes, "nominal": [1500.0], "share": [[0.9, 0.85], [0.75, 0.1]]},
    }
    compared = robustness.compare_grids(grids)
    assert compared["one"] == {
        "nominal": 2000.0,
        "mean": pytest.approx(0.55),
        "least": 0.2,
        "fallen": 2,
        "fallen_mean": pytest.approx(0.3),
        "fallen_least": 0.2,
        "kept": 0,
    }
    assert (compared["other"]["fallen_mean"], compared["other"]["kept"]) == (pytest.approx(0.8), 1)
    nothing = robustness.compare_grids({"one": grids["other"] | {"share": [[1.0, 0.5]]}})["one"]
    assert (nothing["fallen"], nothing["fallen_mean"], nothing["kept"]) == (0, None, 0)
    draw_shares(grids, tmp_path / "shares.png")
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")


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
        (["--heat-map", "grid.png"], "heat_map: needs --perturb, whose grid it shows"),
        (["--perturb", "mass=0.8:1.2", "--as-trained"], "as_trained: --perturb evaluates in C MuJoCo"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_evaluated(options, message, capsys):
    assert cli.main(["evaluate", "nowhere", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_grid_has_at_most_two_axes():
    axes = [robustness.parse_axis(f"{name}=0.5:1", 2) for name in ("mass", "mass")]
    with pytest.raises(UserError, match=r"^perturb: one quantity, or two different ones, not mass and mass"):
        robustness.measure_grid([(stand, CONFIG)], axes, 1, 0)
