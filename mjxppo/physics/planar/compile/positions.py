"""World positions of bodies, joints and geoms at qpos0.

Orientations in that pose do not depend on the parameters that may differ between worlds.
"""

from __future__ import annotations

import mujoco
import numpy as np

from mjxppo.physics.maths import Scalar, dot
from mjxppo.physics.planar.compile.common import rounded
from mjxppo.physics.planar.compile.values import Values
from mjxppo.physics.planar.vector import Vector, add2


class Positions:
    """World positions (x, z) at qpos0: constants, or arrays [N] where they differ between worlds."""

    def __init__(self, model: mujoco.MjModel, values: Values, pose: mujoco.MjData):
        self._model, self._values, self._pose = model, values, pose

    def body(self, body: int) -> Vector:
        """The origin of a body's frame."""
        if not self._values.vary("body_pos"):
            return _constant(self._pose.xpos[body])
        if body == 0:
            return 0.0, 0.0
        parent = int(self._model.body_parentid[body])
        return add2(self.body(parent), self._turned(parent, "body_pos", body))

    def anchor(self, joint: int) -> Vector:
        """A point on a hinge's axis."""
        if not self._vary("body_pos", "jnt_pos"):
            return _constant(self._pose.xanchor[joint])
        body = int(self._model.jnt_bodyid[joint])
        return add2(self.body(body), self._turned(body, "jnt_pos", joint))

    def geom(self, geom: int) -> Vector:
        """A geom's centre."""
        if not self._vary("body_pos", "geom_pos"):
            return _constant(self._pose.geom_xpos[geom])
        body = int(self._model.geom_bodyid[geom])
        return add2(self.body(body), self._turned(body, "geom_pos", geom))

    def center_of_mass(self, body: int) -> Vector:
        """A body's centre of mass."""
        if not self._vary("body_pos", "body_ipos"):
            return _constant(self._pose.xipos[body])
        return add2(self.body(body), self._turned(body, "body_ipos", body))

    def _vary(self, *names: str) -> bool:
        return any(self._values.vary(name) for name in names)

    def _turned(self, body: int, name: str, index: int) -> Vector:
        """A field's vector in a body's frame, rotated into the world's directions."""
        rotation = self._pose.xmat[body].reshape(3, 3)
        offset: tuple[Scalar, ...] = tuple(self._values(name, index, i) for i in range(3))
        x, z = (dot(tuple(rounded(float(c)) for c in rotation[i]), offset) for i in (0, 2))
        return x, z


def _constant(point: np.ndarray) -> Vector:
    return float(point[0]), float(point[2])
