"""Physics of kinematic trees in three dimensions, compiled to elementwise arithmetic over the batch.

MuJoCo's own algorithm, specialised when it is traced to one robot, as ``physics.planar`` does for robots in the xz
plane; the convex problem, its solver, its derivative and the integrators are the same code. From model to step:

* ``compile``: an ``MjModel`` to a ``SpatialModel`` (model.py), or a refusal that names the unsupported feature;
* ``kinematics``, ``inertia``, ``smooth``: positions, velocities, M and the unconstrained forces;
* ``contact``, ``contact_rows``, ``pair``: contacts with planes and of two bodies as rows of the solver's problem;
  limits, dry friction and tendons are those of ``physics.elements``;
* ``problem``, ``backend``: the parts put together.
"""

from mjxppo.physics.spatial.backend import SpatialPhysics

__all__ = ["SpatialPhysics"]
