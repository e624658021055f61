"""Joint limits and contacts with planes as constraint rows (mj_instantiateLimit, mj_instantiateContact)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mjxppo.physics.maths import Scalar, add, as_array, dot, mul, sub
from mjxppo.physics.planar.kinematics import Kinematics, point_motion
from mjxppo.physics.planar.model import ContactParameters, Limit, PlanarModel, PlaneContact
from mjxppo.physics.planar.rows import MINVAL, PlaneRows, Row, impedance, row_offset, row_weight
from mjxppo.physics.planar.vector import scale2, sub2


def limit_rows(limit: Limit, qpos: jax.Array, qvel: jax.Array) -> list[Row]:
    """The rows of a joint's limits: one, or two where both ends can be active at once."""
    rows = []
    below, above = qpos - limit.lower, limit.upper - qpos
    for side in limit.sides:
        sign: Scalar
        if side == "nearest":
            position = jnp.minimum(below, above) - limit.margin
            sign = jnp.where(below < above, 1.0, -1.0).astype(qpos.dtype)
        else:
            position = (below if side == "lower" else above) - limit.margin
            sign = 1.0 if side == "lower" else -1.0
        imp = impedance(limit.impedance, position)
        rows.append(
            Row(
                jacobian={limit.dof: sign},
                weight=row_weight(imp, limit.inv_weight, 1.0, position < 0.0, qpos.dtype),
                offset=row_offset(limit.impedance, imp, mul(sign, qvel), position),
                unit=True,
            )
        )
    return rows


def plane_rows(model: PlanarModel, contact: PlaneContact, kin: Kinematics, like: jax.Array) -> PlaneRows:
    """The rows of a sphere against a fixed plane (mjc_PlaneSphere); ``like`` is any array [N]."""
    link, normal, parameters = contact.link, contact.normal, contact.parameters
    center = kin.frames[link].point(contact.center)
    reference_height = dot(normal, kin.reference[model.tree_of[link]])
    distance = as_array(add(dot(normal, center), sub(reference_height, contact.height + contact.radius)), like)
    # MuJoCo puts the contact half-way between the surfaces; the Jacobian is taken there.
    point = sub2(center, scale2(contact.radius + 0.5 * distance, normal))
    position = distance - parameters.margin if parameters.margin else distance
    velocity = point_motion(kin.velocities[link], point)
    imp = impedance(parameters.impedance, position)
    friction = parameters.friction if parameters.condim == 3 else None
    slip = 0.0 if friction is None else mul(friction, dot((normal[1], mul(-1.0, normal[0])), velocity))
    return PlaneRows(
        link=link,
        normal=normal,
        point=point,
        weight=row_weight(imp, *diagonal(model, parameters), position < 0.0, distance.dtype),
        friction=friction,
        normal_offset=row_offset(parameters.impedance, imp, dot(normal, velocity), position),
        tangent_offset=mul(parameters.impedance.damping, slip),
    )


def diagonal(model: PlanarModel, parameters: ContactParameters) -> tuple[Scalar, Scalar]:
    """A contact's approximate J M^-1 J^T, and the factor on R of its pyramid's edges (mj_makeImpedance).

    All edges of a pyramid get R = 2 mu^2 R_0 with the regularised mu^2 = friction^2 / impratio, R_0 being that
    of the first edge, whose diagonal is (1 + friction^2) inv_weight.
    """
    if parameters.condim == 1:
        return parameters.inv_weight, 1.0
    squared = parameters.friction * parameters.friction
    impratio = max(model.impratio, MINVAL) if isinstance(model.impratio, float) else model.impratio
    return parameters.inv_weight + squared * parameters.inv_weight, 2.0 * squared / impratio
