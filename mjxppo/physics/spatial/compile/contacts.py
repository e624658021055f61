"""The pairs of geoms that can touch, and the parameters of their contacts (engine_collision_driver.c)."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np

from mjxppo.physics.maths import Scalar, dot, mul
from mjxppo.physics.planar.compile.common import disabled, link_of_joints, name_of, rounded, unsupported
from mjxppo.physics.planar.compile.contacts import both, can_touch, contact_parameters
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.spatial.compile.positions import Positions, constant, matrix
from mjxppo.physics.spatial.model import Capsule, PairContact, PlaneContact
from mjxppo.physics.spatial.vector import Matrix3, Vector, add3, apply, scale3, sub3
from mjxppo.physics.tree import WORLD

_PLANE, _SPHERE, _CAPSULE, _BOX = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("PLANE", "SPHERE", "CAPSULE", "BOX")
)
MOST_PAIRS = 24
"""Pairs are unrolled: with more of them a program would take too long to compile."""


def compile_contacts(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector]
) -> tuple[tuple[PlaneContact, ...], tuple[PairContact, ...]]:
    """All contacts that can occur; arguments as in ``planar.compile.contacts``."""
    planes: list[PlaneContact] = []
    pairs: list[PairContact] = []
    if disabled(model, "CONSTRAINT") or disabled(model, "CONTACT"):
        return (), ()
    for a in range(model.ngeom):
        for b in range(a + 1, model.ngeom):
            if not can_touch(model, a, b):
                continue
            # MuJoCo's collision functions take the geom of the lower type first, else of the lower index.
            first, second = (b, a) if model.geom_type[a] > model.geom_type[b] else (a, b)
            kinds = model.geom_type[first], model.geom_type[second]
            known = (_SPHERE, _CAPSULE, _BOX) if kinds[0] == _PLANE else (_SPHERE, _CAPSULE)
            if kinds[0] not in (_PLANE, *known) or kinds[1] not in known:
                raise unsupported(
                    f"contact of {both(model, first, second)}: only spheres, capsules and planes, and boxes with planes"
                )
            if kinds[0] != _PLANE:
                one, other = (_capsule(model, values, pose, positions, origins, geom) for geom in (first, second))
                pairs.append(PairContact(one, other, contact_parameters(model, values, first, second)))
                continue
            if link_of_joints(model, model.geom_bodyid[first]) >= 0:
                raise unsupported(f"contact of the moving plane {name_of(model, 'geom', first)}")
            planes += _plane_contacts(model, values, pose, positions, origins, first, second)
    if len(pairs) > MOST_PAIRS:
        raise unsupported(f"{len(pairs)} pairs of moving geoms that can touch: at most {MOST_PAIRS}; exclude some")
    return tuple(planes), tuple(pairs)


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
    box = model.geom_type[geom] == _BOX
    if box:
        turn = matrix(pose.geom_xmat[geom])
        x, y, z = (values("geom_size", geom, i) for i in range(3))
        signs = itertools.product((-1.0, 1.0), repeat=3)
        ends = [_rounded(apply(turn, (mul(i, x), mul(j, y), mul(k, z)))) for i, j, k in signs]
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
            radius=0.0 if box else values("geom_size", geom, 0),
            arm=end if box else None,
            axis=axis,
            frame=frame,
            height=height,
            parameters=contact_parameters(model, values, plane, geom),
        )
        for end in ends
    ]


def _capsule(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector], geom: int
) -> Capsule:
    link = link_of_joints(model, model.geom_bodyid[geom])
    center = positions.geom(geom)
    return Capsule(
        link=link,
        body=int(model.geom_bodyid[geom]),
        center=_rounded(center if link == WORLD else sub3(center, origins[link])),
        axis=constant(pose.geom_xmat[geom].reshape(3, 3)[:, 2]),
        half_length=0.0 if model.geom_type[geom] == _SPHERE else values("geom_size", geom, 1),
        radius=values("geom_size", geom, 0),
    )


def _frame(normal: np.ndarray) -> Matrix3:
    """A plane's normal and the tangents of a sphere's contact with it (mju_makeFrame)."""
    normal = normal / np.linalg.norm(normal)
    tangent = np.array([0.0, 1.0, 0.0] if abs(normal[1]) < 0.5 else [0.0, 0.0, 1.0])
    tangent -= normal * (normal @ tangent)
    tangent /= np.linalg.norm(tangent)
    return matrix(np.stack([normal, tangent, np.cross(normal, tangent)]))


def _rounded(v: Vector) -> Vector:
    return rounded(v[0]), rounded(v[1]), rounded(v[2])
