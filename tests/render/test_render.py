"""Policies drawn to mp4, gif and a web page, with OpenGL where there is one and without."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import warnings

import browser
import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
from PIL import Image

from mjxppo import render
from mjxppo.errors import UserError
from mjxppo.physics.messages import without_model_warnings
from mjxppo.render import drawing, edges, gl, overlay, player, scene, shapes
from mjxppo.render.camera import camera_path
from mjxppo.render.timeline import frame_rate, make_timeline
from mjxppo.render.trajectory import Trajectory, record_episode

TASKS = {"Hopper-v5": 3, "HalfCheetah-v5": 6}


def sinusoid(gym_id):
    """A policy that moves every joint, as a function of the observation alone."""
    phase = np.arange(TASKS[gym_id])[None] * 1.3
    return lambda obs: 0.6 * np.sin(phase + 3.0 * obs[:, :1])


def still(gym_id):
    return lambda obs: np.zeros((len(obs), TASKS[gym_id]))


def read_video(path):
    """The file's size and frame rate, and its frames, [H, W, 3] each."""
    if path.suffix == ".gif":
        with Image.open(path) as gif:
            frames, seconds = [], 0.0
            for index in range(gif.n_frames):
                gif.seek(index)
                frames.append(np.asarray(gif.convert("RGB")))
                seconds += gif.info["duration"] / 1000
            return {"size": gif.size, "fps": len(frames) / seconds}, frames
    reader = imageio_ffmpeg.read_frames(str(path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")  # JAX's, about imageio-ffmpeg's way to start a process
        meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


@pytest.fixture(scope="module")
def cheetah() -> Trajectory:
    return record_episode(sinusoid("HalfCheetah-v5"), "HalfCheetah-v5", seed=0, max_steps=12)


@pytest.fixture
def no_gl(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")


needs_gl = pytest.mark.skipif(gl.find_backend().backend is None, reason=f"needs OpenGL: {gl.find_backend().problem}")


class TestEpisode:
    @pytest.mark.parametrize("gym_id", TASKS)
    def test_is_what_gymnasium_does(self, gym_id):
        import gymnasium

        policy = sinusoid(gym_id)
        trajectory = record_episode(policy, gym_id, seed=3, max_steps=20)
        with without_model_warnings():
            env = gymnasium.make(gym_id)
        obs, _ = env.reset(seed=3)
        total = 0.0
        for step in range(trajectory.length):
            assert np.array_equal(env.unwrapped.data.qpos, trajectory.qpos[step])
            obs, reward, terminated, truncated, _ = env.step(policy(obs[None])[0])
            total += reward
            assert trajectory.returns[step + 1] == pytest.approx(total, abs=1e-9)
        assert (terminated, truncated) == (trajectory.terminated, trajectory.truncated)
        assert trajectory.dt == pytest.approx(env.unwrapped.dt)

    def test_of_hopper_ends_with_its_fall(self):
        trajectory = record_episode(still("Hopper-v5"), "Hopper-v5", seed=0)
        assert trajectory.terminated
        assert not trajectory.truncated
        assert len(trajectory.qpos) == trajectory.length + 1 < 1000

    def test_of_half_cheetah_ends_at_the_time_limit(self):
        trajectory = record_episode(still("HalfCheetah-v5"), "HalfCheetah-v5", seed=0)
        assert (trajectory.length, trajectory.truncated, trajectory.terminated) == (1000, True, False)

    def test_takes_environment_options(self):
        free, expensive = (
            record_episode(sinusoid("HalfCheetah-v5"), "HalfCheetah-v5", 0, 5, {"ctrl_cost_weight": weight})
            for weight in (0.0, 10.0)
        )
        assert expensive.returns[-1] < free.returns[-1]

    def test_prints_nothing(self, tmp_path):
        code = "from mjxppo.render.trajectory import record_episode; import numpy as np\n"
        code += "record_episode(lambda obs: np.zeros((1, 6)), 'HalfCheetah-v5', 0, 2)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not list(tmp_path.iterdir()), "MuJoCo left a log file"

    @pytest.mark.parametrize(
        ("gym_id", "policy", "message"),
        [
            ("NoSuchTask-v5", still("Hopper-v5"), "NoSuchTask"),
            ("CartPole-v1", lambda obs: np.zeros((1, 1)), "not a MuJoCo environment"),
            ("Hopper-v5", still("HalfCheetah-v5"), r"actions are \[1, 6\], but Hopper-v5 takes \[1, 3\]"),
            ("Hopper-v5", lambda obs: np.full((1, 3), np.nan), "non-finite action at step 0"),
        ],
    )
    def test_refuses_what_does_not_fit_in_one_line(self, gym_id, policy, message):
        with pytest.raises(UserError, match=message) as caught:
            record_episode(policy, gym_id, seed=0, max_steps=2)
        assert "\n" not in str(caught.value)


class TestTimeline:
    @pytest.mark.parametrize(
        ("dt", "interpolate", "fps"),
        [(0.05, True, 40), (0.05, False, 20), (0.008, True, 60), (0.008, False, 125 / 3), (0.02, True, 50)],
    )
    def test_frame_rate_is_smooth_and_at_most_sixty(self, dt, interpolate, fps):
        assert frame_rate(dt, interpolate) == pytest.approx(fps)

    @pytest.mark.parametrize("gym_id", TASKS)
    @pytest.mark.parametrize("max_fps", [60.0, 25.0])
    def test_plays_in_real_time(self, gym_id, max_fps):
        trajectory = record_episode(sinusoid(gym_id), gym_id, seed=0, max_steps=40)
        timeline = make_timeline(trajectory, max_fps)
        assert timeline.fps <= max_fps
        assert np.allclose(np.diff(timeline.time), 1.0 / timeline.fps)
        assert trajectory.duration - timeline.time[-1] < 1.0 / timeline.fps + 1e-9

    def test_starts_and_ends_with_the_episode(self, cheetah):
        timeline = make_timeline(cheetah)
        assert np.array_equal(timeline.qpos[0], cheetah.qpos[0])
        assert np.allclose(timeline.qpos[-1], cheetah.qpos[-1])
        assert (timeline.step[0], timeline.step[-1]) == (0, cheetah.length)
        assert timeline.returns[-1] == cheetah.returns[-1]

    def test_interpolates_between_steps(self, cheetah):
        timeline = make_timeline(cheetah)  # 40 frames for 20 steps a second
        assert np.allclose(timeline.qpos[0::2], cheetah.qpos)
        assert np.allclose(timeline.qpos[1::2], (cheetah.qpos[:-1] + cheetah.qpos[1:]) / 2)

    def test_does_not_interpolate_quaternions(self):
        trajectory = record_episode(lambda obs: np.zeros((1, 8)), "Ant-v5", seed=0, max_steps=6)
        assert np.array_equal(make_timeline(trajectory).qpos, trajectory.qpos)


class TestFile:
    @pytest.mark.parametrize("gym_id", TASKS)
    @pytest.mark.parametrize("suffix", ["mp4", "gif"])
    def test_holds_the_frames(self, gym_id, suffix, tmp_path):
        out = tmp_path / "new folder" / f"video.{suffix}"
        summary = render.render(sinusoid(gym_id), gym_id, out, max_steps=10, width=320, height=240)
        assert json.loads(json.dumps(summary)) == summary
        assert summary["length"] <= 10
        assert summary["renderer"] == (gl.find_backend().backend or "2d")
        meta, frames = read_video(out)
        assert meta["size"] == (320, 240)
        assert meta["fps"] == pytest.approx(summary["fps"], rel=0.01)
        assert len(frames) == summary["frames"]
        assert len(frames) / meta["fps"] == pytest.approx(summary["seconds"], abs=1.5 / meta["fps"])
        assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50, "nothing moves"
        assert [entry.name for entry in out.parent.iterdir()] == [out.name], "temporary files are left"

    def test_is_replaced_only_when_complete(self, tmp_path, monkeypatch):
        out = tmp_path / "video.mp4"
        out.write_bytes(b"before")

        def failing(*args):
            yield np.zeros((240, 320, 3), np.uint8)
            raise RuntimeError("the driver gave up")

        monkeypatch.setattr(drawing, "draw_frames", failing)
        monkeypatch.setenv("MUJOCO_GL", "disabled")
        with pytest.raises(RuntimeError, match="gave up"):
            render.render(still("Hopper-v5"), "Hopper-v5", out, max_steps=3, width=320, height=240)
        assert out.read_bytes() == b"before"
        assert [entry.name for entry in tmp_path.iterdir()] == ["video.mp4"]

    def test_says_when_ffmpeg_fails(self, tmp_path, no_gl, monkeypatch):
        broken = tmp_path / "ffmpeg"
        broken.write_text("#!/bin/sh\necho 'no room' >&2\nexit 1\n")
        broken.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
        with pytest.raises(UserError, match=r"video\.mp4: ffmpeg failed: no room$"):
            render.render(still("Hopper-v5"), "Hopper-v5", tmp_path / "video.mp4", max_steps=8)
        assert [entry.name for entry in tmp_path.iterdir()] == ["ffmpeg"]

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("video.avi", {}, r"must end in \.mp4, \.gif or \.html"),
            ("video", {}, r"must end in \.mp4, \.gif or \.html"),
            ("video.mp4", {"width": 321}, "width is 321, but must be an even number"),
            ("video.mp4", {"height": 0}, "height is 0, but must be an even number"),
            ("video.mp4", {"max_steps": 0}, "at least one step"),
            ("folder.mp4", {}, "is a directory"),
            ("file/video.mp4", {}, "cannot write"),
        ],
    )
    def test_is_refused_in_one_line(self, name, options, message, tmp_path, no_gl):
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "file").write_text("")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match=message) as caught:
            render.render(still("Hopper-v5"), "Hopper-v5", tmp_path / name, **{"max_steps": 2, **options})
        assert "\n" not in str(caught.value)
        assert sorted(tmp_path.rglob("*")) == before


class TestFrames:
    def draw(self, trajectory, backend):
        timeline = make_timeline(trajectory)
        if backend == "2d":
            return list(drawing.draw_frames(trajectory, timeline, 320, 240))
        return list(scene.draw_frames(trajectory, timeline, 320, 240, gl.find_backend().backend))

    @pytest.mark.parametrize("backend", [pytest.param("gl", marks=needs_gl), "2d"])
    def test_keep_a_robot_that_has_run_far_in_view(self, cheetah, backend):
        qpos = cheetah.qpos.copy()
        qpos[:, 0] += 100.0 + 0.3 * np.arange(len(qpos))
        far = self.draw(dataclasses.replace(cheetah, qpos=qpos), backend)[-1].astype(int)
        near = self.draw(cheetah, backend)[-1].astype(int)
        # The robot alone is warm: more red than blue. The floor and the sky are the opposite.
        seen, expected = (np.argwhere(image[..., 0] > image[..., 2] + 25) for image in (far, near))
        assert len(expected) > 300
        assert len(seen) == pytest.approx(len(expected), rel=0.15)
        assert np.allclose(seen.mean(axis=0), expected.mean(axis=0), atol=8)
        # There still is a floor, and it is not the sky.
        assert np.abs(far[-3:].mean(axis=(0, 1)) - far[60].mean(axis=0)).max() > 20

    @pytest.mark.parametrize("backend", [pytest.param("gl", marks=needs_gl), "2d"])
    def test_show_the_floor_go_by(self, cheetah, backend):
        """A robot that glides without moving a joint still changes the picture."""
        qpos = np.repeat(cheetah.qpos[:1], 4, axis=0)
        qpos[:, 0] += 0.25 * np.arange(4)
        trajectory = dataclasses.replace(cheetah, qpos=qpos, reward=np.zeros(3), returns=np.zeros(4))
        frames = self.draw(trajectory, backend)
        floor = [frame[-40:].astype(int) for frame in frames]
        assert np.abs(floor[0] - floor[-1]).max() > 15

    def test_carry_the_text(self, cheetah, no_gl):
        timeline = make_timeline(cheetah)
        bare = list(drawing.draw_frames(cheetah, timeline, 640, 480))
        written, renderer = render.draw_frames(cheetah, timeline, 640, 480)
        written = list(written)
        assert renderer == "2d"
        for before, after in zip(bare, written, strict=True):
            changed = np.argwhere((before != after).any(axis=2))
            assert len(changed) > 2000
            assert changed.max(axis=0)[0] < 200, "the text covers the robot"
            assert (after == 255).all(axis=2).any(), "no white letters"
        assert (written[0][:200, :250] != written[-1][:200, :250]).any()

    def test_a_long_name_fits_into_the_panel(self):
        image = np.zeros((480, 640, 3), np.uint8)
        short, long = (
            overlay.draw_captions(image, [("", name), ("step", "0 / 1000")]).any(axis=2)
            for name in ("Hopper-v5", "InvertedDoublePendulum-v5")
        )
        assert long.any(axis=0).sum() > 1.3 * short.any(axis=0).sum()
        right = np.flatnonzero(long.any(axis=0))[-1]
        image[:] = overlay.draw_captions(image, [("", "InvertedDoublePendulum-v5")])
        assert not (image[:, right - 3 : right] > 100).any(), "letters end before the panel does"

    def test_say_task_step_time_and_return(self):
        trajectory = record_episode(still("Hopper-v5"), "Hopper-v5", seed=0)
        timeline = make_timeline(trajectory)
        first = overlay.captions(trajectory, timeline, 0)
        assert first == [("", "Hopper-v5"), ("time", "0.00 s"), ("step", "0 / 1000"), ("return", "0.0")]
        last = overlay.captions(trajectory, timeline, len(timeline.time) - 1)
        assert last[2:] == [
            ("step", f"{trajectory.length} / 1000"),
            ("return", f"{trajectory.returns[-1]:.1f}"),
            ("", "terminated"),
        ]

    def test_camera_is_calm_and_does_not_lag(self, cheetah):
        steps = 200
        qpos = np.repeat(cheetah.qpos[:1], steps + 1, axis=0)
        qpos[:, 0] = 0.25 * np.arange(steps + 1)  # 5 m/s
        jitter = qpos.copy()
        jitter[:, 0] += 0.1 * (-1.0) ** np.arange(steps + 1)
        paths = []
        for positions in (qpos, jitter):
            zeros = np.zeros(steps)
            trajectory = dataclasses.replace(
                cheetah, qpos=positions, reward=zeros, returns=np.zeros(steps + 1), terminated=False
            )
            paths.append(camera_path(cheetah.model, make_timeline(trajectory)).target)
        offset = paths[0][:, 0] - make_timeline(dataclasses.replace(trajectory, qpos=qpos)).qpos[:, 0]
        assert np.ptp(offset) < 1e-6, "the camera lags behind a constant speed"
        assert np.abs(paths[1] - paths[0])[45:-45].max() < 0.01, "the camera shakes with the robot"

    @needs_gl
    def test_leave_the_model_alone(self, cheetah):
        floor, size = cheetah.model.geom("floor").id, cheetah.model.geom_size.copy()
        self.draw(cheetah, "gl")
        assert np.array_equal(cheetah.model.geom_size, size)
        assert cheetah.model.geom_type[floor] == mujoco.mjtGeom.mjGEOM_PLANE


class TestEdges:
    def test_a_slanted_edge_has_colours_between_and_the_rest_stays(self):
        row, column = np.mgrid[0:48, 0:64]
        picture = np.where((column < 30 + row // 4)[..., None], (200, 120, 60), (80, 90, 110)).astype(np.uint8)
        smooth = picture.copy()
        edges.smooth_edges(smooth)
        changed = (smooth != picture).any(axis=2)
        distance = np.abs(column - (30 + row // 4) + 0.5)
        assert changed[1:-1][distance[1:-1] < 1].all() and not changed[distance > 2].any()
        assert not changed[[0, -1]].any() and not changed[:, [0, -1]].any()
        between = smooth[changed].astype(int)
        assert (between[:, 0] > 80).all() and (between[:, 0] < 200).all()

    def test_a_floor_with_gentle_lines_stays_as_it_is(self):
        picture = np.full((48, 64, 3), 100, np.uint8)
        picture[20:22] = 120
        smooth = picture.copy()
        edges.smooth_edges(smooth)
        assert np.array_equal(smooth, picture)

    @needs_gl
    @pytest.mark.parametrize("threads", [2, 3])
    def test_several_threads_draw_the_same_frames_in_the_same_order(self, cheetah, threads, monkeypatch):
        timeline, backend = make_timeline(cheetah), gl.find_backend().backend
        films = []
        for count in (1, threads):
            monkeypatch.setattr(scene.xla, "usable_cores", lambda count=count: count)
            films.append(np.array(list(scene.draw_frames(cheetah, timeline, 160, 120, backend)), int))
        assert films[0].shape == films[1].shape and np.abs(films[0] - films[1]).max() <= 2
        assert np.abs(np.diff(films[0], axis=0)).reshape(len(films[0]) - 1, -1).max(1).min() > 20, "all differ"

    @needs_gl
    def test_what_is_left_over_when_a_film_is_given_up_is_closed(self, cheetah):
        frames = scene.draw_frames(cheetah, make_timeline(cheetah), 160, 120, gl.find_backend().backend)
        before = threading.active_count()
        next(frames)
        frames.close()
        assert threading.active_count() == before


class TestWithoutGl:
    def test_a_plain_drawing_is_made_and_one_line_says_so(self, tmp_path, no_gl, capfd):
        out = tmp_path / "video.mp4"
        summary = render.render(sinusoid("Hopper-v5"), "Hopper-v5", out, max_steps=8, width=320, height=240)
        assert summary["renderer"] == "2d"
        assert len(read_video(out)[1]) == summary["frames"]
        captured = capfd.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert "2-D drawing" in captured.err and "MUJOCO_GL" in captured.err

    @pytest.mark.parametrize("library", ["egl", "osmesa"])
    def test_a_missing_library_is_found_out_without_noise(self, library, tmp_path, capfd, monkeypatch):
        """As on a machine with no OpenGL at all: the loader finds no library."""
        (tmp_path / "sitecustomize.py").write_text(
            "import ctypes, ctypes.util\n"
            "ctypes.util.find_library = lambda name: None\n"
            "real = ctypes._dlopen\n"
            "def refusing(name, *args):\n"
            "    if name and any(part in str(name) for part in ('EGL', 'OSMesa', 'libGL', 'OpenGL')):\n"
            "        raise OSError(f'{name}: cannot open shared object file')\n"
            "    return real(name, *args)\n"
            "ctypes._dlopen = refusing\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        problem = gl._probe(library)
        assert problem
        assert "\n" not in problem
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    def test_the_choice_may_be_deferred(self, monkeypatch):
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        monkeypatch.setenv(gl.DEFERRED, "osmesa")
        assert gl.candidates() == ["osmesa"]

    def test_an_unknown_backend_is_named(self, monkeypatch):
        monkeypatch.setenv("MUJOCO_GL", "direct3d")
        search = gl.find_backend()
        assert search.backend is None
        assert "direct3d: not a backend" in search.problem


class TestPage:
    @pytest.fixture
    def html(self, tmp_path, cheetah):
        out = tmp_path / "episode.html"
        player.write_player(out, cheetah)
        return out.read_text()

    def test_needs_no_network(self, html):
        assert not re.search(r"https?://|src=|@import|<link", html)

    def test_holds_the_whole_episode(self, html, cheetah):
        match = re.search(r'<script type="application/json" id="episode">(.*?)</script>', html, re.S)
        episode = json.loads(match.group(1))
        assert episode["task"] == "HalfCheetah-v5"
        assert len(episode["poses"]) == len(episode["camera"]) == len(episode["returns"]) == cheetah.length + 1
        assert all(len(row) == 7 * 7 for row in episode["poses"]), "HalfCheetah has seven bodies"
        assert len(episode["shapes"]) == 8
        assert episode["returns"][-1] == pytest.approx(cheetah.returns[-1], abs=0.01)

    def test_is_chosen_by_the_suffix(self, tmp_path):
        out = tmp_path / "episode.HTML"
        summary = render.render(still("Hopper-v5"), "Hopper-v5", out, max_steps=4)
        assert summary["renderer"] == "html"
        assert "<canvas" in out.read_text()

    def test_places_of_bodies_are_those_of_mujoco(self, html, cheetah):
        episode = json.loads(re.search(r'id="episode">(.*?)</script>', html, re.S).group(1))
        data = mujoco.MjData(cheetah.model)
        data.qpos[:] = cheetah.qpos[9]
        mujoco.mj_kinematics(cheetah.model, data)
        rows = np.array(episode["poses"][9]).reshape(-1, 7) / 1000
        np.testing.assert_allclose(rows[:, :3] * episode["tile"], data.xpos[1:], atol=1e-3)
        np.testing.assert_allclose(rows[:, 3:], data.xquat[1:], atol=1e-3)
        foot = episode["shapes"][-1]
        assert (foot["kind"], foot["body"]) == ("capsule", 6)
        np.testing.assert_allclose(foot["size"], [*cheetah.model.geom_size[-1][[0, 0, 1]]], rtol=1e-4)

    def test_meshes_and_fixed_parts_are_in_their_places(self, monkeypatch):
        model = mujoco.MjModel.from_xml_string("""<mujoco>
          <asset><mesh name="m" vertex="0 0 0  1 0 0  0 2 0  0 0 3"/></asset>
          <worldbody><geom type="plane" size="1 1 1"/>
            <body pos="1 2 3" euler="0 0 90"><geom type="box" size=".1 .2 .3" pos="1 0 0" euler="90 0 0"/></body>
            <body pos="0 0 1"><freejoint/><geom type="mesh" mesh="m" pos="5 0 0" euler="0 90 0"/></body>
          </worldbody></mujoco>""")
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        mesh, box = shapes.make_shapes(model)
        assert (mesh["kind"], mesh["body"], box["kind"], box["body"]) == ("mesh", 0, "box", -1)
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, np.array(box["quat"]))
        np.testing.assert_allclose(box["pos"], data.geom_xpos[1], rtol=1e-4)
        np.testing.assert_allclose(turn, data.geom_xmat[1], atol=1e-4)

        def corners(shape, points):
            mujoco.mju_quat2Mat(turn, np.array(shape["quat"]))
            return points @ turn.reshape(3, 3).T + shape["pos"] + [0, 0, 1]

        vertices = corners(mesh, np.array(mesh["vertices"]).reshape(-1, 3))
        expected = data.geom_xpos[2] + model.mesh_vert @ data.geom_xmat[2].reshape(3, 3).T
        np.testing.assert_allclose(vertices, expected, atol=1e-3)
        assert len(mesh["faces"]) == 4 * 3
        monkeypatch.setattr(shapes, "_MOST_FACES", 2)
        as_box = shapes.make_shapes(model)[0]
        assert as_box["kind"] == "box"
        low, high = model.mesh_vert.min(0), model.mesh_vert.max(0)
        np.testing.assert_allclose(as_box["size"], (high - low) / 2, atol=1e-3)
        middle = data.geom_xpos[2] + data.geom_xmat[2].reshape(3, 3) @ (low + high) / 2
        np.testing.assert_allclose(corners(as_box, np.zeros(3)), middle, atol=1e-3)

    @pytest.mark.skipif(browser.find() is None, reason="needs a browser: apt install chromium")
    def test_shows_the_whole_robot_in_windows_of_any_shape_from_every_side(self, html, cheetah, tmp_path):
        corners = """(() => { const c = $("scene"), aspect = c.clientWidth / c.clientHeight; let most = 0;
          for (position = 0; position <= last; position += 1) for (const shape of drawn) {
            const m = times(viewOf(aspect, target()), modelOf(shape, target())), p = shape.corners;
            for (let i = 0; i < p.length; i += 60) { const on = [0, 1, 3].map((r) =>
              m[r] * p[i] + m[4 + r] * p[i + 1] + m[8 + r] * p[i + 2] + m[12 + r]);
              most = Math.max(most, Math.abs(on[0] / on[2]), Math.abs(on[1] / on[2])); } }
          position = 0; return most; })()"""
        with browser.Browser(tmp_path / "profile") as chrome:
            chrome.open(tmp_path / "episode.html")
            chrome.evaluate("setPlaying(false)")
            for width, height in ((390, 844), (1280, 800), (800, 300)):
                chrome.size(width, height)
                for azimuth in (0.0, 0.35, 1.6):
                    chrome.evaluate(f"view.azimuth = {azimuth}")
                    reach = chrome.evaluate(corners)
                    assert 0.1 < reach <= 1, (width, height, azimuth, reach)
            assert not chrome.errors

    @pytest.mark.skipif(browser.find() is None, reason="needs a browser: apt install chromium")
    def test_the_picture_plays_and_turns_with_the_mouse(self, html, tmp_path):
        with browser.Browser(tmp_path / "profile") as chrome:
            chrome.size(480, 400)
            chrome.open(tmp_path / "episode.html")
            chrome.evaluate("setPlaying(false); seek(0)")
            first = self._picture(chrome)
            brown = (first[..., 0].astype(int) - first[..., 2] > 40).mean()
            assert 0.003 < brown < 0.3, "the robot is not there"
            np.testing.assert_array_equal(self._picture(chrome), first)
            chrome.evaluate("seek(last)")
            assert (self._picture(chrome) != first).any(-1).mean() > 0.01
            chrome.evaluate("seek(0)")
            chrome.mouse("mousePressed", 240, 100)
            chrome.mouse("mouseMoved", 340, 120)
            chrome.mouse("mouseReleased", 340, 120)
            assert chrome.evaluate("view.azimuth") == pytest.approx(0.35 - 100 / 150)
            assert (self._picture(chrome) != first).any(-1).mean() > 0.1
            assert not chrome.errors

    def _picture(self, chrome):
        """The scene, after it has been drawn again."""
        chrome.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return chrome.picture(160, 0, 320, 240)
