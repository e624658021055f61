"""Contacts with planes as constraint rows (mj_instantiateContact)."""

from __future__ import annotations

import jax

from mjxppo.physics.elements import diagonal
from mjxppo.physics.maths import add, as_array, dot, mul, sub
from mjxppo.physics.planar.kinematics import Kinematics, point_motion
from mjxppo.physics.planar.model import PlanarModel, PlaneContact
from mjxppo.physics.planar.rows import PlaneRows
from mjxppo.physics.planar.vector import scale2, sub2
from mjxppo.physics.rows import impedance, row_offset, row_weight


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
        weight=row_weight(imp, *diagonal(model.impratio, parameters), position < 0.0, distance.dtype),
        friction=friction,
        normal_offset=row_offset(parameters.impedance, imp, dot(normal, velocity), position),
        tangent_offset=mul(parameters.impedance.damping, slip),
    )
