"""The shapes of a model's geoms and the places of its bodies, as the web page draws them."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from mjxppo.render.outline import body_geoms, boxes, geom_color

_KIND = mujoco.mjtGeom
_NAMES = {
    int(_KIND.mjGEOM_SPHERE): "ellipsoid",
    int(_KIND.mjGEOM_ELLIPSOID): "ellipsoid",
    int(_KIND.mjGEOM_CAPSULE): "capsule",
    int(_KIND.mjGEOM_CYLINDER): "cylinder",
    int(_KIND.mjGEOM_BOX): "box",
    int(_KIND.mjGEOM_MESH): "mesh",
}
_MOST_FACES = 3000  # of one mesh; a larger one would make the page large, and is shown as its box


def make_shapes(model: mujoco.MjModel) -> list[dict[str, Any]]:
    """The visible geoms but the ground, ready for JSON; those of the robot first.

    Each has ``kind``; ``size``, its half lengths along its axes (m); ``pos`` (m) and ``quat`` (w, x, y, z), its place
    in its body's frame; ``color``; and ``body``, its body's place among ``moving_bodies``, or -1 for a fixed one, whose
    frame is the world's. A mesh has ``vertices`` [V * 3] and ``faces`` [F * 3].
    """
    data, bodies = mujoco.MjData(model), moving_bodies(model)
    mujoco.mj_kinematics(model, data)
    robot = [int(geom) for geom in body_geoms(model)]
    seen = [int(geom) for geom in np.flatnonzero(model.geom_rgba[:, 3] > 0) if int(model.geom_type[geom]) in _NAMES]
    shapes = []
    for geom in [*robot, *(geom for geom in seen if geom not in robot)]:
        if int(model.geom_type[geom]) not in _NAMES:
            continue
        shape = _shape(model, geom) | {"color": "#{:02x}{:02x}{:02x}".format(*geom_color(model, geom)), "body": -1}
        if geom in robot:
            shape["body"] = bodies.index(int(model.geom_bodyid[geom]))
        else:
            body, middle, turn = int(model.geom_bodyid[geom]), np.zeros(3), np.zeros(4)
            mujoco.mju_rotVecQuat(middle, shape["pos"], data.xquat[body])
            mujoco.mju_mulQuat(turn, data.xquat[body], shape["quat"])
            shape["pos"], shape["quat"] = data.xpos[body] + middle, turn
        shapes.append({name: _rounded(value) for name, value in shape.items()})
    return shapes


def moving_bodies(model: mujoco.MjModel) -> list[int]:
    """The bodies that the robot's visible geoms belong to."""
    return sorted({int(model.geom_bodyid[geom]) for geom in body_geoms(model)})


def poses(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [F, B, 3] (m) and quaternions [F, B, 4] of ``moving_bodies`` for positions ``qpos`` [F, nq]."""
    data, bodies = mujoco.MjData(model), moving_bodies(model)
    position, rotation = np.empty((len(qpos), len(bodies), 3)), np.empty((len(qpos), len(bodies), 4))
    for frame, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        position[frame], rotation[frame] = data.xpos[bodies], data.xquat[bodies]
    return position, rotation


def reach(model: mujoco.MjModel, qpos: np.ndarray, center: np.ndarray) -> float:
    """The largest distance, in metres, of a part of the robot in states ``qpos`` [F, nq] from ``center`` [F, 3]."""
    data, geoms, found = mujoco.MjData(model), body_geoms(model), 0.0
    for row, middle in zip(qpos, center, strict=True):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        for corner in boxes(data, geoms):
            found = max(found, float(np.linalg.norm(corner - middle, axis=1).max(initial=0.0)))
    return found


def _shape(model: mujoco.MjModel, geom: int) -> dict[str, Any]:
    """Kind, size and place of a geom in its body's frame."""
    kind, size = _NAMES[int(model.geom_type[geom])], model.geom_size[geom]
    pos, quat = model.geom_pos[geom], model.geom_quat[geom]
    if int(model.geom_type[geom]) == int(_KIND.mjGEOM_SPHERE):
        size = np.full(3, size[0])
    elif kind in ("capsule", "cylinder"):
        size = size[[0, 0, 1]]
    shape = {"kind": kind, "size": size, "pos": pos, "quat": quat}
    if kind != "mesh":
        return shape
    mesh = int(model.geom_dataid[geom])
    if model.mesh_facenum[mesh] > _MOST_FACES:
        middle = np.zeros(3)
        mujoco.mju_rotVecQuat(middle, model.geom_aabb[geom, :3], quat)
        return shape | {"kind": "box", "size": model.geom_aabb[geom, 3:], "pos": pos + middle}
    vertex, face = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
    return shape | {
        "vertices": model.mesh_vert[vertex : vertex + int(model.mesh_vertnum[mesh])].ravel(),
        "faces": model.mesh_face[face : face + int(model.mesh_facenum[mesh])].ravel(),
    }


def _rounded(value: Any) -> Any:
    """An array as a list of short numbers."""
    if not isinstance(value, np.ndarray):
        return value
    return value.tolist() if value.dtype.kind == "i" else [float(f"{number:.5g}") for number in value]
