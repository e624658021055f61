"""Pictures of robots of any size, wherever their floor is, look as those of a robot of one metre."""

import functools
import json
import re

import mujoco
import numpy as np
import pytest

from mjxppo.render import drawing, gl, player, scene
from mjxppo.render.camera import camera_path
from mjxppo.render.outline import floor_height
from mjxppo.render.timeline import make_timeline
from mjxppo.render.trajectory import Trajectory

ROBOT = """
<mujoco>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" width="64" height="64"/>
    <texture name="tiles" type="2d" builtin="checker" width="100" height="100"/><material name="m" texture="tiles"/>
  </asset>
  <worldbody>
    <light pos="0 0 {light}" dir="0 0 -1"/>
    <geom type="plane" size="{s} {s} {s}" pos="0 0 {floor}" {material}/>
    {more}
    <body pos="{x} 0 {z}">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 {s}" size="{r}" rgba=".9 .6 .3 1"/>
      <geom type="capsule" fromto="-{r} 0 0 {foot} 0 0" size="{r}" rgba=".9 .6 .3 1"/>
    </body>
  </worldbody>
</mujoco>"""

needs_gl = pytest.mark.skipif(gl.find_backend().backend is None, reason="no OpenGL here")
BACKENDS = [pytest.param("gl", marks=needs_gl), "2d"]
ROBOTS = {
    "5 cm": {"scale": 0.05},
    "50 m": {"scale": 50.0},
    "floor below 0": {"scale": 1.0, "floor": -30.0},
    "5 cm on a table": {"scale": 0.05, "floor": 0.8},
    "far away": {"scale": 0.05, "x": 40.0},
    "without textures": {"scale": 0.05, "material": ""},
    "beside a tower": {"scale": 0.05, "more": '<geom type="box" size=".01 .01 3" pos="9 9 0"/>'},
}


def robot(scale=1.0, floor=0.0, x=0.0, material='material="m"', more=""):
    sizes = {"s": scale, "r": 0.05 * scale, "foot": 0.3 * scale, "light": 3 * scale, "z": floor + 0.06 * scale}
    return mujoco.MjModel.from_xml_string(ROBOT.format(floor=floor, x=x, material=material, more=more, **sizes))


def episode(model, climbs=0.0, steps=20):
    """The robot glides by its own height, and climbs."""
    qpos = np.zeros((steps + 1, model.nq))
    qpos[:, :2] = np.linspace(0, 1, steps + 1)[:, None] * [float(model.geom_size[-1, 0]) / 0.05, climbs]
    zeros = np.zeros(steps)
    return Trajectory("robot", model, 0.02, qpos, zeros, np.zeros(steps + 1), False, False, None)


def last_frame(trajectory, backend):
    timeline = make_timeline(trajectory)
    draw = (
        functools.partial(scene.draw_frames, backend=gl.find_backend().backend)
        if backend == "gl"
        else (drawing.draw_frames)
    )
    return list(draw(trajectory, timeline, width=320, height=240))[-1].astype(int)


def pixels_of_robot(frame):
    """Rows and columns where it is: it alone is more red than blue."""
    return np.argwhere(frame[..., 0] > frame[..., 2] + 25)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ROBOTS)
def test_it_fills_the_picture_on_its_floor(name, backend):
    usual = last_frame(episode(robot()), backend)
    expected = pixels_of_robot(usual)
    assert np.ptp(expected[:, 0]) > 0.45 * 240
    frame = last_frame(episode(robot(**ROBOTS[name])), backend)
    seen = pixels_of_robot(frame)
    assert len(seen) == pytest.approx(len(expected), rel=0.1)
    np.testing.assert_allclose(seen.mean(axis=0), expected.mean(axis=0), atol=4)
    # Its floor is there, and it is not the sky.
    floor, sky = frame[-10:].mean(axis=(0, 1)), frame[:20].mean(axis=(0, 1))
    np.testing.assert_allclose(floor, usual[-10:].mean(axis=(0, 1)), atol=15)
    assert np.abs(floor - sky).max() > 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_robot_that_climbs_stays_in_the_picture(backend):
    level, climbing = (pixels_of_robot(last_frame(episode(robot(), climbs, 100), backend)) for climbs in (0.0, 8.0))
    assert len(climbing) == pytest.approx(len(level), rel=0.25)


def test_the_page_holds_a_small_robot_as_precisely_as_a_large_one(tmp_path):
    pages = []
    for scale in (0.05, 1.0, 50.0):
        player.write_player(tmp_path / "e.html", episode(robot(scale)))
        text = re.search(r'id="episode">(.*?)</script>', (tmp_path / "e.html").read_text(), re.DOTALL)[1]
        page = json.loads(text)
        lengths = {name: np.array(page[name]) for name in ("viewHeight", "reach")}
        lengths |= {name: np.array([shape[name] for shape in page["shapes"]]) for name in ("size", "pos")}
        places = {"camera": np.array(page["camera"]), "poses": np.array(page["poses"]).reshape(-1, 7)[:, :3]}
        lengths |= {name: x * page["tile"] / 1000 for name, x in places.items()}
        pages.append({name: x / scale for name, x in lengths.items()})
        assert 2 <= page["viewHeight"] / page["tile"] <= 5
    for page in pages:
        for name, x in page.items():
            np.testing.assert_allclose(x, pages[1][name], atol=2e-3, err_msg=name)


def test_the_floor_is_what_is_under_the_robot():
    table = '<geom type="box" size="1 1 .1" pos="0 0 .5"/>'
    assert floor_height(robot(floor=-2.0)) == -2
    assert floor_height(robot(floor=-2.0, more='<geom type="plane" size="1 1 1" pos="0 0 5"/>')) == -2
    assert floor_height(robot(floor=0.6, more=table)) == pytest.approx(0.6)
    above = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody>{table}<body pos="0 0 1"><freejoint/><geom size=".1"/></body></worldbody></mujoco>'
    )
    assert floor_height(above) == pytest.approx(0.6)
    assert camera_path(above, make_timeline(episode_of_ball(above))).target[0, 2] == pytest.approx(1.0, abs=0.2)


def episode_of_ball(model):
    qpos = np.tile(model.qpos0, (3, 1))
    return Trajectory("ball", model, 0.02, qpos, np.zeros(2), np.zeros(3), False, False, None)
