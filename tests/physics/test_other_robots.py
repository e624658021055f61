"""Robots' files that other people wrote, where their packages are installed: one step against C MuJoCo in float64.

pip install dm_control mjlab (nothing of them is imported, only their files are read).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compiling import QUICKLY
from planar_models import Worlds, c_step
from spatial_models import relative_errors, tumbling_worlds

from mjxppo import physics

SUITE = ["acrobot", "cartpole", "cheetah", "hopper", "pendulum", "reacher", "swimmer", "walker"]


def folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs {package}")
    return Path(found.submodule_search_locations[0])


def step_errors(model: mujoco.MjModel, worlds: Worlds) -> np.ndarray:
    """The largest error in qvel of each world after a step by the backend that auto takes, relative above 1."""
    sim = physics.make(model)
    assert sim.name in ("planar", "planar-pallas", "spatial", "spatial-pallas")
    expected = c_step(model, worlds, 1)[1]
    with jax.enable_x64(True):
        out = jax.jit(sim.step, compiler_options=QUICKLY)(*worlds.state(jnp.float64))
        actual = np.asarray(out.qvel)
    return np.abs(actual - expected).max(axis=1) / np.maximum(1.0, np.abs(expected).max(axis=1))


@pytest.mark.parametrize("name", SUITE)
def test_the_robots_of_dm_control_move_as_in_c(name):
    model = mujoco.MjModel.from_xml_path(str(folder("dm_control") / "suite" / f"{name}.xml"))
    assert step_errors(model, tumbling_worlds(model, 128)).max() < 1e-9


def test_a_go1_that_touches_the_floor_with_its_feet_moves_as_in_c():
    xml = folder("mjlab") / "asset_zoo" / "robots" / "unitree_go1" / "xmls" / "go1.xml"
    spec = mujoco.MjSpec.from_file(str(xml))
    for geom in spec.geoms:
        feet = "foot" in geom.name
        geom.contype, geom.conaffinity = 0, int(feet)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 1], contype=1, conaffinity=0)
    model = spec.compile()
    assert model.nv == 18 and (model.geom_conaffinity > 0).sum() == 4
    assert relative_errors(model, tumbling_worlds(model, 64)).max() < 1e-9
