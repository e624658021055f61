"""The pairs of geoms that can touch, and the parameters of their contacts (engine_collision_driver.c)."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.maths import Scalar, dot
from mjxppo.physics.planar.compile.common import disabled, link_of_joints, name_of, rounded, unsupported
from mjxppo.physics.planar.compile.contacts import both, can_touch, contact_parameters
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.spatial.compile.positions import Positions, constant, matrix
from mjxppo.physics.spatial.model import PlaneContact
from mjxppo.physics.spatial.vector import Matrix3, Vector, add3, scale3, sub3

_PLANE, _SPHERE, _CAPSULE = (int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("PLANE", "SPHERE", "CAPSULE"))


def compile_contacts(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector]
) -> tuple[PlaneContact, ...]:
    """All contacts that can occur; arguments as in ``planar.compile.contacts``."""
    planes: list[PlaneContact] = []
    if disabled(model, "CONSTRAINT") or disabled(model, "CONTACT"):
        return ()
    for a in range(model.ngeom):
        for b in range(a + 1, model.ngeom):
            if not can_touch(model, a, b):
                continue
            # MuJoCo's collision functions take the geom of the lower type first, else of the lower index.
            first, second = (b, a) if model.geom_type[a] > model.geom_type[b] else (a, b)
            if model.geom_type[first] != _PLANE or model.geom_type[second] not in (_SPHERE, _CAPSULE):
                raise unsupported(f"contact of {both(model, first, second)}: only spheres and capsules with planes")
            if link_of_joints(model, model.geom_bodyid[first]) >= 0:
                raise unsupported(f"contact of the moving plane {name_of(model, 'geom', first)}")
            planes += _plane_contacts(model, values, pose, positions, origins, first, second)
    return tuple(planes)


def _plane_contacts(
    model: mujoco.MjModel,
    values: Values,
    pose: mujoco.MjData,
    positions: Positions,
    origins: list[Vector],
    plane: int,
    geom: int,
) -> list[PlaneContact]:
    frame = _frame(pose.geom_xmat[plane].reshape(3, 3)[:, 2])
    axis: tuple[float, float, float] | None = None
    ends: list[Vector] = [(0.0, 0.0, 0.0)]
    if model.geom_type[geom] == _CAPSULE:
        axis = constant(pose.geom_xmat[geom].reshape(3, 3)[:, 2])
        end = scale3(values("geom_size", geom, 1), axis)
        ends = [end, scale3(-1.0, end)]
    height: Scalar = float(np.array(frame[0]) @ pose.geom_xpos[plane])
    if values.vary("body_pos") or values.vary("geom_pos"):
        height = dot(frame[0], positions.geom(plane))
    link = link_of_joints(model, model.geom_bodyid[geom])
    return [
        PlaneContact(
            link=link,
            body=int(model.geom_bodyid[geom]),
            center=_rounded(sub3(add3(positions.geom(geom), end), origins[link])),
            radius=values("geom_size", geom, 0),
            axis=axis,
            frame=frame,
            height=height,
            parameters=contact_parameters(model, values, plane, geom),
        )
        for end in ends
    ]


def _frame(normal: np.ndarray) -> Matrix3:
    """A plane's normal and the tangents of a sphere's contact with it (mju_makeFrame)."""
    normal = normal / np.linalg.norm(normal)
    tangent = np.array([0.0, 1.0, 0.0] if abs(normal[1]) < 0.5 else [0.0, 0.0, 1.0])
    tangent -= normal * (normal @ tangent)
    tangent /= np.linalg.norm(tangent)
    return matrix(np.stack([normal, tangent, np.cross(normal, tangent)]))


def _rounded(v: Vector) -> Vector:
    return rounded(v[0]), rounded(v[1]), rounded(v[2])
