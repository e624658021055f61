"""World positions of bodies, joints and geoms at qpos0.

Orientations in that pose do not depend on the parameters that may differ between worlds.
"""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.maths import Scalar
from mjxppo.physics.planar.compile.common import rounded
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.spatial.vector import Matrix3, Vector, add3, apply


class Positions:
    """World positions at qpos0: constants, or arrays [N] where they differ between worlds."""

    def __init__(self, model: mujoco.MjModel, values: Values, pose: mujoco.MjData):
        self._model, self._values, self._pose = model, values, pose

    def body(self, body: int) -> Vector:
        """The origin of a body's frame."""
        if not self._values.vary("body_pos"):
            return constant(self._pose.xpos[body])
        if body == 0:
            return 0.0, 0.0, 0.0
        parent = int(self._model.body_parentid[body])
        return add3(self.body(parent), self._turned(parent, "body_pos", body))

    def anchor(self, joint: int) -> Vector:
        """A point on a hinge's axis, or a ball's centre."""
        return self._part("xanchor", "jnt_pos", joint, self._model.jnt_bodyid)

    def geom(self, geom: int) -> Vector:
        """A geom's centre."""
        return self._part("geom_xpos", "geom_pos", geom, self._model.geom_bodyid)

    def center_of_mass(self, body: int) -> Vector:
        """A body's centre of mass."""
        return self._part("xipos", "body_ipos", body, np.arange(self._model.nbody))

    def _part(self, in_pose: str, name: str, index: int, body_of: np.ndarray) -> Vector:
        """The world position of a part of a body: ``in_pose`` of MjData, and field ``name`` in the body's frame."""
        if not any(self._values.vary(field) for field in ("body_pos", name)):
            return constant(getattr(self._pose, in_pose)[index])
        body = int(body_of[index])
        return add3(self.body(body), self._turned(body, name, index))

    def _turned(self, body: int, name: str, index: int) -> Vector:
        """A field's vector in a body's frame, rotated into the world's directions."""
        offset: tuple[Scalar, ...] = tuple(self._values(name, index, i) for i in range(3))
        return apply(matrix(self._pose.xmat[body]), (offset[0], offset[1], offset[2]))


def constant(point: np.ndarray) -> tuple[float, float, float]:
    """A vector of constants; rounding errors of MuJoCo's rotations become 0, which shortens the program."""
    x, y, z = (rounded(float(component)) for component in point)
    assert isinstance(x, float) and isinstance(y, float) and isinstance(z, float)
    return x, y, z


def matrix(rotation: np.ndarray) -> Matrix3:
    """A rotation of constants, from its nine numbers."""
    rows = rotation.reshape(3, 3)
    # An entry of 1 within rounding is 1, and shortens the program as 0 does.
    rows = np.where(np.abs(np.abs(rows) - 1) < 1e-15, np.sign(rows), rows)
    return constant(rows[0]), constant(rows[1]), constant(rows[2])
