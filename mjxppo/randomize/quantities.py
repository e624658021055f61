"""What the quantities that can be varied are in MuJoCo's terms."""

from __future__ import annotations

from typing import Any

FIELDS = {
    "mass": ("body_mass", "body_inertia"),
    "inertia": ("body_inertia",),
    "friction": ("geom_friction",),
    "strength": ("actuator_gainprm", "actuator_biasprm"),
    "damping": ("dof_damping",),
    "stiffness": ("jnt_stiffness",),
    "armature": ("dof_armature",),
    "gravity": ("opt.gravity",),
}
"""The model fields that a factor on a quantity multiplies."""


def tilted(gravity: Any, cos: Any, sin: Any) -> tuple[Any, Any, Any]:
    """Gravity (x, y, z) as felt on ground that rises along x at an angle of the given cosine and sine."""
    x, y, z = gravity
    return cos * x + sin * z, y, cos * z - sin * x
