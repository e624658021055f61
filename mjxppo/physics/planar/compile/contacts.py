"""The pairs of geoms that can touch, and the parameters of their contacts (engine_collision_driver.c)."""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.elements import ContactParameters
from mjxppo.physics.maths import Scalar, dot, maximum, total
from mjxppo.physics.planar.compile.common import (
    OUT_OF_PLANE,
    disabled,
    impedance,
    link_of,
    name_of,
    rounded,
    unsupported,
    xz,
)
from mjxppo.physics.planar.compile.positions import Positions
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.planar.model import Capsule, PairContact, PlaneContact
from mjxppo.physics.planar.vector import Vector, add2, scale2, sub2
from mjxppo.physics.tree import WORLD

_MINMU = 1e-5  # mjMINMU
_PLANE, _SPHERE, _CAPSULE = (int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("PLANE", "SPHERE", "CAPSULE"))


def compile_contacts(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector]
) -> tuple[tuple[PlaneContact, ...], tuple[PairContact, ...]]:
    """All contacts that can occur.

    ``pose`` is the model's kinematics at qpos0, where all links' frames are aligned with the world's; ``positions`` and
    ``origins`` are the world positions of its bodies, joints and geoms, and of the links' origins, in that pose.
    """
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
            _check_types(model, first, second)
            if model.geom_type[first] == _PLANE:
                planes += _plane_contacts(model, values, pose, positions, origins, first, second)
            else:
                pairs += _pair_contacts(model, values, pose, positions, origins, first, second)
    return tuple(planes), tuple(pairs)


def can_touch(model: mujoco.MjModel, a: int, b: int) -> bool:
    """MuJoCo's filters that do not depend on the state (filterBitmask, filterBodyPair, excludes)."""
    mask = model.geom_contype[a] & model.geom_conaffinity[b] or model.geom_contype[b] & model.geom_conaffinity[a]
    bodies = sorted((int(model.geom_bodyid[a]), int(model.geom_bodyid[b])))
    weld = [int(model.body_weldid[body]) for body in bodies]
    weld_parent = [int(model.body_weldid[model.body_parentid[w]]) for w in weld]
    if not mask or weld[0] == weld[1] or not any(model.body_dofnum[w] for w in weld):
        return False
    related = weld[0] == weld_parent[1] or weld[1] == weld_parent[0]
    if related and 0 not in weld and not disabled(model, "FILTERPARENT"):
        return False
    return (bodies[0] << 16) + bodies[1] not in set(model.exclude_signature.tolist())


def both(model: mujoco.MjModel, a: int, b: int) -> str:
    """The names of two geoms, for a message."""
    return f"{name_of(model, 'geom', a)} with {name_of(model, 'geom', b)}"


def _check_types(model: mujoco.MjModel, first: int, second: int) -> None:
    for geom in (first, second):
        if model.geom_type[geom] not in (_PLANE, _SPHERE, _CAPSULE):
            kind = mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
            raise unsupported(f"contact of the {kind} {both(model, geom, second if geom == first else first)}")


def contact_parameters(model: mujoco.MjModel, values: Values, a: int, b: int) -> ContactParameters:
    """engine_collision_driver.c: mj_contactParam."""
    owner = f"the contact of {both(model, a, b)}"
    priority = model.geom_priority[[a, b]]
    solmix = model.geom_solmix[[a, b]]
    if priority[0] != priority[1]:
        share = float(priority[0] > priority[1])
        dominant = a if share else b
        condim, friction = int(model.geom_condim[dominant]), values("geom_friction", dominant, 0)
    else:
        if np.any(solmix < 1e-15):
            share = 0.5 if np.all(solmix < 1e-15) else float(solmix[1] < 1e-15)
        else:
            share = float(solmix[0] / solmix.sum())
        condim = int(max(model.geom_condim[[a, b]]))
        friction = maximum(values("geom_friction", a, 0), values("geom_friction", b, 0))
    if condim not in (1, 3):
        raise unsupported(f"condim {condim} of {owner}: only 1 and 3")
    for geom in (a, b):
        if np.any(model.geom_solref[geom] <= 0):
            raise unsupported(f"solref with a non-positive number of {name_of(model, 'geom', geom)}")
    solref = share * model.geom_solref[a] + (1 - share) * model.geom_solref[b]
    solimp = share * model.geom_solimp[a] + (1 - share) * model.geom_solimp[b]
    return ContactParameters(
        condim=3 if condim == 3 else 1,
        friction=maximum(friction, _MINMU),
        margin=float(model.geom_margin[a] + model.geom_margin[b]),
        inv_weight=total(*(values("body_invweight0", model.geom_bodyid[g], 0) for g in (a, b))),
        impedance=impedance(model, solref, solimp, owner),
    )


def _axis(pose: mujoco.MjData, geom: int) -> np.ndarray:
    return pose.geom_xmat[geom].reshape(3, 3)[:, 2]


def _local(model: mujoco.MjModel, origins: list[Vector], geom: int, point: Vector) -> Vector:
    link = link_of(model, model.geom_bodyid[geom])
    x, z = point if link == WORLD else sub2(point, origins[link])
    return rounded(x), rounded(z)


def _plane_contacts(
    model: mujoco.MjModel,
    values: Values,
    pose: mujoco.MjData,
    positions: Positions,
    origins: list[Vector],
    plane: int,
    geom: int,
) -> list[PlaneContact]:
    parameters = contact_parameters(model, values, plane, geom)
    normal = _axis(pose, plane)
    if abs(normal[1]) > OUT_OF_PLANE:
        raise unsupported(f"the normal of {name_of(model, 'geom', plane)}: it is not in the xz plane")
    ends: list[Vector] = [(0.0, 0.0)]
    if model.geom_type[geom] == _CAPSULE:
        axis = _axis(pose, geom)
        # MuJoCo turns the friction pyramid with the capsule: its edges are in xz and along y only if the capsule is.
        if parameters.condim == 3 and min(abs(axis[1]), 1 - abs(axis[1])) > OUT_OF_PLANE:
            capsule = name_of(model, "geom", geom)
            raise unsupported(f"friction of the capsule {capsule}: its axis is oblique to the xz plane")
        end = scale2(values("geom_size", geom, 1), (float(axis[0]), float(axis[2])))
        ends = [end, scale2(-1.0, end)]
    height: Scalar = float(normal @ pose.geom_xpos[plane])
    if values.vary("body_pos") or values.vary("geom_pos"):
        height = dot(xz(normal), positions.geom(plane))
    return [
        PlaneContact(
            link=link_of(model, model.geom_bodyid[geom]),
            center=_local(model, origins, geom, add2(positions.geom(geom), end)),
            radius=values("geom_size", geom, 0),
            normal=xz(normal),
            height=height,
            parameters=parameters,
        )
        for end in ends
    ]


def _pair_contacts(
    model: mujoco.MjModel,
    values: Values,
    pose: mujoco.MjData,
    positions: Positions,
    origins: list[Vector],
    a: int,
    b: int,
) -> list[PairContact]:
    parameters = contact_parameters(model, values, a, b)
    for geom in (a, b):
        if model.geom_type[geom] == _CAPSULE and abs(_axis(pose, geom)[1]) > OUT_OF_PLANE:
            raise unsupported(f"contact of {both(model, a, b)}: an axis is not in the xz plane")
    apart = abs(float(pose.geom_xpos[a, 1] - pose.geom_xpos[b, 1]))
    sizes_vary = any(values.vary(name) for name in ("body_pos", "geom_pos", "geom_size"))
    if apart >= model.geom_size[a, 0] + model.geom_size[b, 0] + parameters.margin and not sizes_vary:
        return []  # They are too far apart in y to touch.
    if apart > OUT_OF_PLANE:
        raise unsupported(f"contact of {both(model, a, b)}: they are not in the same xz plane")
    first, second = (_capsule(model, values, pose, positions, origins, geom) for geom in (a, b))
    return [PairContact(first, second, parameters)]


def _capsule(
    model: mujoco.MjModel, values: Values, pose: mujoco.MjData, positions: Positions, origins: list[Vector], geom: int
) -> Capsule:
    sphere = model.geom_type[geom] == _SPHERE
    return Capsule(
        link=link_of(model, model.geom_bodyid[geom]),
        center=_local(model, origins, geom, positions.geom(geom)),
        axis=xz(_axis(pose, geom)),
        half_length=0.0 if sphere else values("geom_size", geom, 1),
        radius=values("geom_size", geom, 0),
    )
