"""The planar backend against C MuJoCo on generated models."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from planar_generated import generated, planar_models
from planar_models import Worlds, c_step, hard_worlds, planar_step, rollout_worlds


@generated(max_examples=8)
@given(xml=planar_models())
def test_one_step_agrees_with_c_on_any_planar_model(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    worlds = hard_worlds(model, 256) + rollout_worlds(model, 64, steps=3)
    expected = c_step(model, worlds, 1)[1]
    actual = planar_step(model, worlds, 1)[1]
    error = np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))
    assert error.max() < 1e-9, (np.argmax(error), error.max())


SLIDERS = """
<mujoco>
  <option gravity="0 0 0"/>
  <default><geom condim="{condim}" friction="0.7" {margin}/></default>
  <worldbody>
    {fixed}
    <body>
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 1 0" damping="1"/>
      <geom name="first" size="{first}" {first_type}/>
    </body>
    <body>
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 -1 0"/>
      <geom name="second" size="{second}" {second_type}/>
    </body>
  </worldbody>
</mujoco>
"""
CAPSULE, SPHERE = 'type="capsule"', 'type="sphere"'


@pytest.mark.parametrize("condim", [1, 3])
@pytest.mark.parametrize(
    "shapes",
    [
        {"first": "0.05 0.3", "first_type": CAPSULE, "second": "0.04 0.1", "second_type": CAPSULE},
        {"first": "0.04 0.1", "first_type": CAPSULE, "second": "0.05", "second_type": SPHERE},
        {"first": "0.06", "first_type": SPHERE, "second": "0.05", "second_type": SPHERE},
    ],
    ids=["capsules", "capsule and sphere", "spheres"],
)
def test_two_bodies_agree_with_c_however_they_lie(condim, shapes):
    """Also parallel, where capsules touch in two points: side by side, one beyond the other's end, end to end."""
    model = mujoco.MjModel.from_xml_string(SLIDERS.format(condim=condim, margin='margin="0.01"', fixed="", **shapes))
    rng = np.random.default_rng(0)
    worlds = hard_worlds(model, 1000)
    qpos = worlds.qpos.copy()
    qpos[:, 3:5] = qpos[:, :2] + rng.uniform(-0.4, 0.4, (1000, 2))
    turns = rng.choice([0.0, np.pi / 2, np.pi, 0.3], 1000)
    parallel = rng.random(1000) < 0.5
    qpos[parallel, 2], qpos[parallel, 5] = turns[parallel], -turns[parallel]
    # Parallel means to within 1e-4.
    qpos[:, 5] += rng.choice([0.0, 5e-5, -9e-5, 2e-4], 1000)
    # Some at the exact positions where MuJoCo's choice among its candidates changes.
    qpos[:200, 3:5] = qpos[:200, :2] + rng.choice([-0.2, 0.0, 0.09, 0.2, 0.4], (200, 2))
    # Where two axes meet, MuJoCo's normal is y if rounding leaves less than 1e-15 between the points, which it
    # does only near the origin.
    qpos[:, [0, 1, 3, 4]] -= qpos[:, [0, 1, 0, 1]]
    worlds = Worlds(qpos, worlds.qvel, worlds.warmstart, worlds.ctrl)
    expected = c_step(model, worlds, 1)[1]
    actual = planar_step(model, worlds, 1)[1]
    error = np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))
    assert error.max() < 1e-9, (np.argmax(error), error.max())
    contacts = contact_counts(model, worlds)
    assert np.sum(contacts == 1) > 50
    if shapes["second_type"] == CAPSULE:
        assert np.sum(contacts == 2) > 20


def contact_counts(model: mujoco.MjModel, worlds: Worlds) -> np.ndarray:
    data = mujoco.MjData(model)
    counts = []
    for qpos in worlds.qpos:
        data.qpos[:] = qpos
        mujoco.mj_fwdPosition(model, data)
        counts.append(data.ncon)
    return np.array(counts)
